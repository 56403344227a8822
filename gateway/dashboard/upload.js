// Text from outside goes into the page only as text.

const ONE_PUT = 64 * 2 ** 20; // the gateway's own limit for a file in one piece
const IN_FLIGHT = 4;
const TRIES = 8; // of a piece
const $ = id => document.getElementById(id);
const hash = globalThis.crypto?.subtle; // only there over HTTPS or on this machine
const element = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
let storeAnswered = false;

class Problem extends Error {
  constructor(status, p) {
    super([p.detail || p.title || "The gateway answered " + status, p.hint].filter(Boolean).join(". Next: "));
    Object.assign(this, { status, code: p.code, store: p.store });
  }
}

let asking; // the promise of a key, while the person is asked for one

function askKey(wrong) {
  $("choose").hidden = true;
  $("sign-in").hidden = false;
  $("key-error").textContent = wrong ? "The gateway does not know this key." : "";
  $("key").focus();
  asking ??= new Promise(done => {
    $("sign-in").onsubmit = e => {
      e.preventDefault();
      sessionStorage.setItem("spillway.key", $("key").value.trim());
      $("key").value = "";
      $("sign-in").hidden = true;
      $("choose").hidden = !$("function").length;
      asking = undefined;
      done();
    };
  });
  return asking;
}

// api calls the gateway; a call that may be repeated outlasts its restart.
async function api(method, path, { body, signal, text, once } = {}) {
  for (let n = 1; ; n++) {
    const key = sessionStorage.getItem("spillway.key");
    const headers = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (key) headers.Authorization = "Bearer " + key;
    let answer;
    try {
      answer = await fetch(path, { method, headers, signal, redirect: "manual", body: body === undefined ? undefined : JSON.stringify(body) });
    } catch (e) {
      if (signal?.aborted) throw e;
      if (once || n >= TRIES) throw new Error("The gateway cannot be reached");
    }
    if (answer?.status === 401) {
      await askKey(!!key);
      n--;
      continue;
    }
    if (answer?.ok) return text ? answer.text() : answer.json();
    if (answer?.type === "opaqueredirect") return null; // it is in the store
    if (answer && (once || n >= TRIES || answer.status !== 503)) throw new Problem(answer.status, await answer.json().catch(() => ({})));
    await pause(n, signal);
  }
}

// pause waits after try n.
function pause(n, signal) {
  const ms = Math.min(500 * 2 ** (n - 1), 15000) * (0.5 + Math.random() / 2);
  return new Promise((done, stop) => {
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", () => { clearTimeout(timer); stop(signal.reason); }, { once: true });
  });
}

const memory = {
  all() {
    try { return JSON.parse(localStorage.getItem("spillway.uploads")) || []; } catch { return []; }
  },
  save(list) {
    try { localStorage.setItem("spillway.uploads", JSON.stringify(list)); } catch { /* then it is not resumed */ }
    showUnfinished();
  },
  same: (a, b) => a.fn === b.fn && a.name === b.name && a.size === b.size && a.lastModified === b.lastModified,
  find(u) { return this.all().find(r => this.same(r, u)); },
  keep(u) { this.save([...this.all().filter(r => !this.same(r, u)), { id: u.id, fn: u.fn, name: u.name, size: u.size, lastModified: u.lastModified }]); },
  forget(id) { this.save(this.all().filter(r => r.id !== id)); },
};

function showUnfinished() {
  const live = new Set([...uploads].map(u => u.id));
  const rows = memory.all().filter(r => !live.has(r.id)).map(r => {
    const li = element("li", ""), button = element("button", "Forget");
    button.setAttribute("aria-label", "Forget " + r.name);
    button.onclick = () => memory.forget(r.id);
    li.append(element("span", `${r.name} (${bytes(r.size)}) for ${r.fn}`), button);
    return li;
  });
  $("unfinished").hidden = !rows.length;
  $("unfinished").querySelector("ul").replaceChildren(...rows);
}

// put sends a piece by a signed request. fetch would tell no progress.
function put(to, blob, onsent, signal) {
  return new Promise((done, stop) => {
    const xhr = new XMLHttpRequest();
    const abort = () => xhr.abort();
    signal.addEventListener("abort", abort);
    xhr.onloadend = () => signal.removeEventListener("abort", abort);
    xhr.open(to.method, to.url);
    for (const [k, v] of Object.entries(to.headers || {})) if (k.toLowerCase() !== "content-length") xhr.setRequestHeader(k, v);
    xhr.upload.onprogress = e => onsent(e.loaded);
    xhr.onabort = () => stop(signal.reason);
    xhr.onerror = () => {
      stop(new Problem(0, { detail: `The store at ${new URL(to.url).origin} does not answer this page`, store: true, hint: "it must be reachable from this browser (--store-public), and this page be open at the gateway's own address (--public-url)" }));
    };
    xhr.onload = () => {
      storeAnswered = true;
      // An object that is there already is this file: nothing else was signed.
      if (xhr.status < 300 || xhr.status === 412 && to.headers["If-None-Match"]) return done();
      const code = /<Code>([A-Za-z]+)<\/Code>/.exec(xhr.responseText)?.[1] || "";
      const hint = { 400: "see whether the file changed", 403: "compare the clocks of gateway and store", 507: "free some of its disk" }[xhr.status];
      stop(new Problem(xhr.status, { detail: `The store refused it with ${xhr.status} ${code}`, hint, store: true }));
    };
    xhr.send(blob);
  });
}

const triesFor = status => ({ 0: storeAnswered ? TRIES : 3, 400: 3, 403: 3, 408: TRIES, 429: TRIES, 507: 1 })[status] ?? (status > 499 ? TRIES : 1);

// sendPiece sends a piece until the store has it, each time signed anew.
async function sendPiece(u, n, blob, sign, signal) {
  for (let t = 1; ; t++) {
    try {
      await put(await sign(), blob, sent => u.count(n, sent), signal);
      return u.count(n, blob.size);
    } catch (e) {
      u.count(n, 0);
      if (signal.aborted || !e.store || t >= triesFor(e.status)) throw e;
      u.say(e.message + ". Trying again.");
      await pause(t, signal);
      u.say("Uploading");
    }
  }
}

async function sha256(blob) {
  let content;
  try { content = await blob.arrayBuffer(); } catch { throw new Error("The file cannot be read: it changed or is gone. Choose it again"); }
  return Array.from(new Uint8Array(await hash.digest("SHA-256", content)), b => b.toString(16).padStart(2, "0")).join("");
}

async function sendParts(u, m) {
  const held = new Map(m.received.map(r => [r.number, r]));
  const stop = new AbortController();
  const signal = AbortSignal.any([u.abort.signal, stop.signal]);
  let next = 1;
  const worker = async () => {
    while (next <= m.parts && !signal.aborted) {
      const n = next++;
      const blob = u.file.slice((n - 1) * m.part_size, n * m.part_size), has = held.get(n);
      const sum = hash && (m.checksums || has?.sha256) ? await sha256(blob) : undefined;
      if (has?.size === blob.size && (!has.sha256 || !sum || has.sha256 === sum)) {
        u.held += blob.size;
        u.count(n, blob.size);
        continue;
      }
      const sign = async () => (await api("POST", m.parts_url, { body: { parts: [{ number: n, ...(m.checksums && { sha256: sum }) }] }, signal })).parts[0];
      await sendPiece(u, n, blob, sign, signal);
    }
  };
  const workers = Array.from({ length: IN_FLIGHT }, () => worker().catch(e => { stop.abort(e); throw e; }));
  const failed = (await Promise.allSettled(workers)).find(w => w.status === "rejected");
  if (failed) throw u.abort.signal.aborted ? u.abort.signal.reason : stop.signal.reason ?? failed.reason;
}

const uploads = new Set();

class Upload {
  constructor(file, fn, device, event) {
    Object.assign(this, { file, fn, device, event, name: file.name, size: file.size, lastModified: file.lastModified });
    this.row = $("upload").content.cloneNode(true).firstElementChild;
    this.part = sel => this.row.querySelector(sel);
    this.part("h2").textContent = this.name;
    this.part("progress").setAttribute("aria-label", "Sent of " + this.name);
    this.part(".cancel").onclick = () => this.cancel();
    this.part(".again").onclick = () => enqueue(this);
    this.say("Waiting for its turn");
    $("uploads").prepend(this.row);
    uploads.add(this);
  }

  say(text, bad) {
    const p = this.part(".state");
    if (p.textContent !== text) p.textContent = text;
    p.classList.toggle("bad", !!bad);
  }

  count(n, sent) {
    this.sent.set(n, sent);
    const now = performance.now();
    let all = 0;
    for (const v of this.sent.values()) all += v;
    if (now - this.shown < 250 && all < this.size) return;
    this.shown = now;
    const at = Math.min(all, this.size), share = this.size ? at / this.size : 1;
    this.part("progress").value = share;
    const speed = (all - this.held) / ((now - this.begun) / 1000);
    const left = speed > 0 && at < this.size ? `, ${bytes(speed)}/s, ${Math.ceil((this.size - at) / speed)} s left` : "";
    this.part(".amount").textContent = `${Math.floor(share * 100)} %, ${bytes(at)} of ${bytes(this.size)}${left}`;
  }

  async run() {
    this.abort = new AbortController();
    this.sent = new Map();
    this.held = this.shown = 0;
    this.begun = performance.now();
    this.part(".again").hidden = true;
    this.part(".cancel").hidden = false;
    try {
      let s = await this.open();
      for (let round = 1; s.state === "awaiting_upload"; round++) {
        if (s.multipart) await sendParts(this, s.multipart);
        else await sendPiece(this, 1, this.file, () => this.signWhole(), this.abort.signal);
        try {
          await api("POST", s.complete_url, { signal: this.abort.signal });
          break;
        } catch (e) {
          if (e.code !== "parts_missing" || round === 3) throw e;
          s = await this.session();
        }
      }
      memory.forget(this.id);
      this.part("progress").value = 1;
      this.part(".cancel").hidden = true;
      this.say("Uploaded");
      this.follow().catch(e => this.say(e.message, true));
    } catch (e) {
      this.part(".cancel").hidden = true;
      if (this.abort.signal.aborted) return;
      this.say(e.message, true);
      this.part(".again").hidden = false;
    }
  }

  at(what) { return `/v1/${what}/` + encodeURIComponent(this.id); }

  session() { return api("GET", this.at("uploads"), { signal: this.abort.signal }); }

  // open goes on with what was begun before, or begins.
  async open() {
    const old = memory.find(this);
    if (old) {
      this.id = old.id;
      try {
        const s = await this.session();
        if (!["expired", "canceled"].includes(s.state)) {
          this.say("Going on where it stopped");
          showUnfinished();
          return s;
        }
      } catch (e) {
        if (e.status !== 404) throw e;
      }
      memory.forget(old.id);
    }
    this.say("Uploading");
    const ask = { function: this.fn, name: this.name, size: this.size };
    if (this.file.type) ask.content_type = this.file.type;
    if (this.device) ask.device = this.device;
    if (this.event !== undefined) ask.event = this.event;
    if (hash && this.size > ONE_PUT) ask.part_checksums = true;
    else if (hash) ask.sha256 = await sha256(this.file);
    const s = await api("POST", "/v1/uploads", { body: ask, signal: this.abort.signal, once: true });
    this.id = s.id;
    memory.keep(this);
    return s;
  }

  async signWhole() {
    const s = await this.session();
    if (!s.upload) throw new Error("The upload is " + s.state);
    return s.upload;
  }

  async cancel() {
    this.abort?.abort(new Error("canceled"));
    waiting = waiting.filter(u => u !== this);
    this.say("Canceled");
    this.part(".cancel").hidden = true;
    if (!this.id) return;
    memory.forget(this.id);
    await api("DELETE", this.at("uploads")).catch(e => this.say("Not canceled: " + e.message, true));
  }

  // follow shows the task until it has ended.
  async follow() {
    const path = this.at("tasks");
    for (let wait = 0; ; wait = 2) {
      const t = await api("GET", path + "?wait=" + wait + "s");
      const ended = !!t.finished_at;
      this.show(t);
      this.say((ended ? "Task " : "The task is ") + t.status.replaceAll("_", " "), ended && t.status !== "succeeded");
      if (!ended) continue;
      const good = t.status === "succeeded";
      const text = await api("GET", path + (good ? "/result" : "/logs?tail=50"), { text: true });
      return this.fact(good ? "result" : "log", text === null ? "It is large: GET " + path + "/result" : text.slice(0, 65536), true);
    }
  }

  show(t) {
    this.part("dl").replaceChildren();
    this.fact("task", t.id);
    this.fact("device", (t.device_used ? t.device_used + " used, " : "none used yet, ") + t.device_requested + " asked for");
    this.fact("why", t.device_reason || t.route?.reason);
    this.fact("fallback", t.fallback_reason);
    this.fact("waits", t.waiting?.reason);
    this.fact("progress", t.progress?.message);
    this.fact("failure", t.failure && t.failure.class + ": " + t.failure.message);
    this.fact("next", t.failure?.hint);
    for (const o of t.outputs ?? []) {
      const a = element("a", `${o.name} (${bytes(o.size)})`), url = new URL(o.download_url ?? o.url, location.href);
      if (/^https?:$/.test(url.protocol)) a.href = url.href;
      this.fact("output", a);
    }
  }

  fact(name, value, pre) {
    if (!value) return;
    const dd = element("dd", ""), box = pre ? element("pre", "") : value;
    if (pre) {
      box.textContent = value;
      box.tabIndex = 0; // so that the keyboard can scroll it
    }
    dd.append(box);
    this.part("dl").append(element("dt", name), dd);
  }
}

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return (i ? n.toFixed(1) : Math.round(n)) + " " + units[i];
}

let waiting = [], busy = false;

// enqueue uploads files one after another: each gets the whole line.
async function enqueue(u) {
  waiting.push(u);
  if (busy) return;
  busy = true;
  while (waiting.length) await waiting.shift().run();
  busy = false;
}

function take(list) {
  let event;
  const text = $("event").value.trim();
  try {
    if (text) event = JSON.parse(text);
  } catch {
    $("note").textContent = "The event is not JSON.";
    return $("event").focus();
  }
  if (!$("function").value) return;
  $("note").textContent = "";
  for (const file of list) enqueue(new Upload(file, $("function").value, $("device").value, event));
}

async function start() {
  const { functions } = await api("GET", "/v1/functions");
  const names = functions.map(f => f.name).sort();
  $("function").replaceChildren(...names.map(n => new Option(n, n)));
  const last = localStorage.getItem("spillway.function");
  if (names.includes(last)) $("function").value = last;
  $("choose").hidden = false;
  if (!names.length) $("note").textContent = "No function is deployed yet: spillway deploy FOLDER, then load this page again.";
  $("files").disabled = !names.length;
}

$("choose").onsubmit = e => e.preventDefault();
$("function").onchange = e => localStorage.setItem("spillway.function", e.target.value);
$("files").onchange = e => {
  take(e.target.files);
  e.target.value = ""; // the same file may be chosen again
};
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, e => {
    e.preventDefault();
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && !$("choose").hidden) take([...e.dataTransfer.files]);
  });
}
showUnfinished();
start().catch(e => { $("note").textContent = e.message; });
