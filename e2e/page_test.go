package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects/miniotest"
)

// door is a proxy before the gateway or the store, which counts what passes.
type door struct {
	*httptest.Server
	received atomic.Int64 // bytes of bodies

	mu   sync.Mutex
	puts map[string]int // requests for each part number
	// hold may answer instead, or wait before it lets a request pass.
	hold func(w http.ResponseWriter, r *http.Request) bool
}

func newDoor(t *testing.T, target string) *door {
	t.Helper()
	to := &url.URL{Scheme: "http", Host: target}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { // the host stays: it is signed
			r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }, // a client that left is no news
	}
	d := &door{puts: map[string]int{}}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		if r.Method == http.MethodPut {
			d.puts[r.URL.Query().Get("partNumber")]++
		}
		hold := d.hold
		d.mu.Unlock()
		if hold != nil && hold(w, r) {
			return
		}
		r.Body = &tally{r.Body, &d.received}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *door) setHold(hold func(w http.ResponseWriter, r *http.Request) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hold = hold
	clear(d.puts)
}

type tally struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *tally) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// tab is the upload page in a real browser, before a real server.
type tab struct {
	t              *testing.T
	ctx            context.Context
	srv            *harness.Server
	gateway, store *door

	mu     sync.Mutex
	wrong  []string            // what the browser complained of
	origin map[string]struct{} // that the browser sent requests to
}

// openPage starts a server and a browser, and opens the page. Every test ends
// with a look at what the browser complained of.
func openPage(t *testing.T, args ...string) *tab {
	t.Helper()
	return openPageOn(t, nil, args...)
}

// openPageOn is openPage on MinIO, or on the embedded store when that is nil.
func openPageOn(t *testing.T, minio *miniotest.Server, args ...string) *tab {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		msg := "no chromium: install Debian's package of that name (deploy/setup.sh test does)"
		if os.Getenv("REQUIRE_CHROMIUM") == "1" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	ports, err := harness.FreePorts()
	if err != nil {
		t.Fatal(err)
	}
	cfg := harness.Config{Ports: ports}
	store := ports.Store
	if minio != nil {
		store = strings.TrimPrefix(minio.Endpoint, "http://")
		args = append(args, "--store-endpoint", minio.Endpoint, "--store-access-key", miniotest.AccessKey)
		cfg.Env = []string{"SPILLWAY_STORE_SECRET_KEY=" + miniotest.SecretKey}
	}
	p := &tab{t: t, gateway: newDoor(t, ports.Gateway), store: newDoor(t, store), origin: map[string]struct{}{}}
	cfg.Args = append([]string{"--runtime", "simulated", "--public-url", p.gateway.URL, "--store-public", p.store.URL}, args...)
	p.srv = serverWith(t, cfg)
	deploySpec(t, p.srv, "name: echo\nimage: spillway/echo:latest\n")

	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("host-resolver-rules", "MAP gateway.test 127.0.0.1"))
	if os.Getuid() == 0 {
		opts = append(opts, chromedp.NoSandbox)
	}
	limit, cancel := context.WithTimeoutCause(t.Context(), 3*time.Minute, errors.New("the browser took over 3 minutes"))
	t.Cleanup(cancel)
	alloc, cancel := chromedp.NewExecAllocator(limit, opts...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	p.ctx = ctx
	t.Cleanup(p.judge)
	p.watch()
	p.do(chromedp.Navigate(p.gateway.URL + "/upload"))
	return p
}

// watch notes what the browser complains of and where it sends requests.
func (p *tab) watch() {
	p.t.Helper()
	for _, err := range []error{
		chromedp.Listen(p.ctx, func(ev any) {
			p.mu.Lock()
			defer p.mu.Unlock()
			switch ev := ev.(type) {
			case *log.EventEntryAdded:
				p.wrong = append(p.wrong, ev.Entry.Text+" "+ev.Entry.URL)
			case *runtime.EventConsoleAPICalled:
				p.wrong = append(p.wrong, fmt.Sprintf("console %s", ev.Type))
			case *runtime.EventExceptionThrown:
				p.wrong = append(p.wrong, ev.ExceptionDetails.Text)
			case *network.EventRequestWillBeSent:
				if u, err := url.Parse(ev.Request.URL); err == nil {
					p.origin[u.Scheme+"://"+u.Host] = struct{}{}
				}
			}
		}),
		call(p.ctx, log.Enable), call(p.ctx, network.Enable),
	} {
		if err != nil {
			p.t.Fatal(err)
		}
	}
}

// call runs a command of the browser whose answer does not matter.
func call[P, R any](ctx context.Context, cmd cdp.Command[P, R]) error {
	var none P
	_, err := chromedp.Call(ctx, cmd, none)
	return err
}

// judge wants a browser that complained of nothing, and that spoke to the
// gateway and the store alone.
func (p *tab) judge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.wrong) > 0 {
		p.t.Errorf("the browser complained: %q", p.wrong)
	}
	for origin := range p.origin {
		if origin != p.gateway.URL && origin != p.store.URL {
			p.t.Errorf("the browser sent a request to %s", origin)
		}
	}
	if got := p.gateway.received.Load(); got > 1<<20 {
		p.t.Errorf("%d bytes went through the gateway, which is not there for files", got)
	}
}

// forgive takes complaints that were meant to come, and wants them to have come.
func (p *tab) forgive(about string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.wrong[:0]
	for _, w := range p.wrong {
		if !strings.Contains(w, about) {
			kept = append(kept, w)
		}
	}
	if len(kept) == len(p.wrong) {
		p.t.Errorf("the browser did not complain of %s", about)
	}
	p.wrong = kept
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// eval is the value of a JavaScript expression in the page.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// text is what the first match of a selector says.
func (p *tab) text(sel string) string {
	p.t.Helper()
	quoted, err := json.Marshal(sel)
	if err != nil {
		p.t.Fatal(err)
	}
	return eval[string](p, "document.querySelector("+string(quoted)+")?.textContent ?? ''")
}

// says waits until an element says something.
func (p *tab) says(sel, want string) {
	p.t.Helper()
	last := ""
	defer func() {
		if p.t.Failed() {
			p.t.Logf("%s says %q, want %q", sel, last, want)
		}
	}()
	eventually(p.t, time.Minute, sel+" says "+want, func() bool {
		last = p.text(sel)
		return strings.Contains(last, want)
	})
}

// choose gives the file input a file, once there are functions to choose.
func (p *tab) choose(file string) {
	p.t.Helper()
	p.says("#function", "echo")
	p.do(chromedp.SetUploadFiles(chromedp.ID("files"), []string{file}))
}

// file makes a file whose every part is another one.
func (p *tab) file(name string, size int64) string {
	p.t.Helper()
	path := filepath.Join(p.t.TempDir(), name)
	f, err := os.Create(path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		p.t.Fatal(err)
	}
	for off := int64(0); off < size; off += 1 << 20 {
		if _, err := f.WriteAt([]byte(fmt.Sprint(off)[:1]), off); err != nil {
			p.t.Fatal(err)
		}
	}
	return path
}

// uploadID is the id of the upload that the page remembers.
func (p *tab) uploadID() functions.TaskID {
	p.t.Helper()
	var id string
	eventually(p.t, time.Minute, "an upload is remembered", func() bool {
		id = eval[string](p, "JSON.parse(localStorage.getItem('spillway.uploads') ?? '[]')[0]?.id ?? ''")
		return id != ""
	})
	return functions.TaskID(id)
}

// TestPage uploads a small file with a hostile name, and looks at the page as
// people with other eyes and other screens do.
func TestPage(t *testing.T) {
	p := openPage(t)
	const name = `<img src=x onerror="console.log(1)">.txt`
	p.says("#function", "echo")
	p.do(chromedp.SetValue(chromedp.ID("event"), `{"output":"<b>small.txt"}`))
	p.choose(p.file(name, 1000))
	p.says("#uploads .state", "Task succeeded")
	for sel, want := range map[string]string{
		"#uploads h2": name, "#uploads .amount": "100 %, 1000 B of 1000 B", "#uploads dl": "cpu used, auto asked for",
		"#uploads a": "<b>small.txt (12 B)", "#uploads pre": `small.txt"}`,
	} {
		p.says(sel, want)
	}
	if href := eval[string](p, "document.querySelector('#uploads a').href"); !strings.HasPrefix(href, p.store.URL) {
		t.Errorf("the output is at %s, not in the store", href)
	}
	if got := p.store.received.Load(); got != 1000 {
		t.Errorf("%d bytes came to the store, want the file's 1000", got)
	}
	if left := eval[string](p, "localStorage.getItem('spillway.uploads')"); left != "[]" {
		t.Errorf("%s is remembered after the end", left)
	}
	if bad := eval[string](p, "[...document.querySelectorAll('input, select, textarea')].filter(e => !e.labels.length).map(e => e.id).join()"); bad != "" {
		t.Errorf("%s have no label", bad)
	}

	p.do(chromedp.SetValue(chromedp.ID("event"), `{"say":["<i>the last words</i>"],"exit":3}`))
	p.choose(p.file("small.txt", 1000))
	p.says("#uploads .state", "Task failed")
	p.says("#uploads pre", "<i>the last words</i>")
	if n := eval[int](p, "document.querySelectorAll('#uploads img, #uploads b, #uploads i').length"); n != 0 {
		t.Errorf("a name became %d elements", n)
	}

	colours := map[string]bool{}
	for _, scheme := range []string{"light", "dark"} {
		media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
		if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, media); err != nil {
			t.Fatal(err)
		}
		colours[eval[string](p, "getComputedStyle(document.body).backgroundColor")] = true
	}
	if len(colours) != 2 {
		t.Errorf("light and dark have the backgrounds %v", colours)
	}
	phone := emulation.SetDeviceMetricsOverrideParams{Width: 360, Height: 640, DeviceScaleFactor: 2, Mobile: true}
	if _, err := chromedp.Call(p.ctx, emulation.SetDeviceMetricsOverride, phone); err != nil {
		t.Fatal(err)
	}
	if w := eval[int](p, "document.documentElement.scrollWidth"); w > 360 {
		t.Errorf("on a phone the page is %d wide, over its 360", w)
	}
}

// TestPageInParts uploads a large file in parts, loses the tab in the middle and
// one answer besides, and goes on after the reload with what is missing.
func TestPageInParts(t *testing.T) {
	t.Run("embedded", func(t *testing.T) { uploadInParts(t, openPage(t)) })
	t.Run("minio", func(t *testing.T) {
		uploadInParts(t, openPageOn(t, miniotest.Start(t, miniotest.Options{Dir: t.TempDir()})))
	})
}

func uploadInParts(t *testing.T, p *tab) {
	const parts = 8
	path := p.file("film.mov", parts<<24)
	var refused atomic.Bool
	done := make(chan struct{})
	p.store.setHold(func(w http.ResponseWriter, r *http.Request) bool {
		switch n := r.URL.Query().Get("partNumber"); {
		case r.Method != http.MethodPut:
		case n == "2" && refused.CompareAndSwap(false, true):
			w.Header().Set("Access-Control-Allow-Origin", p.gateway.URL)
			http.Error(w, "<Error><Code>SlowDown</Code></Error>", http.StatusServiceUnavailable)
			return true
		case n > "5": // these never arrive
			select {
			case <-r.Context().Done():
			case <-done:
			}
			return true
		}
		return false
	})
	t.Cleanup(func() { close(done) }) // before the proxy closes, which waits for its requests
	p.choose(path)
	id := p.uploadID()
	received := func() int {
		var s struct {
			Multipart struct{ Received []functions.Part }
		}
		if err := p.srv.JSON(t.Context(), http.MethodGet, "/v1/uploads/"+string(id), nil, &s); err != nil {
			t.Fatal(err)
		}
		return len(s.Multipart.Received)
	}
	eventually(t, time.Minute, "five parts are there", func() bool { return received() == 5 })
	p.forgive("503")
	if v := eval[float64](p, "document.querySelector('#uploads progress').value"); v < 0.5 || v == 1 {
		t.Errorf("with five of eight parts sent, the bar is at %v", v)
	}

	p.do(chromedp.Reload())
	p.says("#unfinished li", "film.mov (128.0 MiB) for echo")
	p.store.setHold(nil)
	p.choose(path)
	p.says("#uploads .state", "Task succeeded")
	for n := range parts {
		want := 0
		if n >= 5 {
			want = 1
		}
		if got := p.store.puts[fmt.Sprint(n+1)]; got != want {
			t.Errorf("after the reload part %d was sent %d times, want %d", n+1, got, want)
		}
	}
	task, err := p.srv.Task(t.Context(), id)
	if err != nil || task.Status != string(functions.Succeeded) {
		t.Errorf("the first upload's task is %s (err %v)", task.Status, err)
	}
	if hidden := eval[bool](p, "document.querySelector('#unfinished').hidden"); !hidden {
		t.Error("the page still shows it as not finished")
	}
}

// TestPageWithoutHTTPS opens the page under a name that is not this machine's
// own: there browsers cannot hash, and files go without checksums.
func TestPageWithoutHTTPS(t *testing.T) {
	p := openPageOn(t, miniotest.Start(t, miniotest.Options{Dir: t.TempDir()}))
	elsewhere := strings.Replace(p.gateway.URL, "127.0.0.1", "gateway.test", 1)
	p.do(chromedp.Navigate(elsewhere + "/upload"))
	if eval[bool](p, "isSecureContext") {
		t.Fatal("the browser takes it for secure")
	}
	p.choose(p.file("small.txt", 10))
	p.says("#uploads .state", "Task succeeded")
	p.choose(p.file("film.mov", 65<<20))
	p.says("#uploads h2", "film.mov")
	p.says("#uploads .state", "Task succeeded")
	p.mu.Lock()
	delete(p.origin, elsewhere)
	p.mu.Unlock()
}

// TestPageCancels takes an upload back in the middle.
func TestPageCancels(t *testing.T) {
	p := openPage(t)
	done := make(chan struct{})
	p.store.setHold(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		select {
		case <-r.Context().Done():
		case <-done:
		}
		return true
	})
	t.Cleanup(func() { close(done) })
	p.choose(p.file("film.mov", 65<<20))
	id := p.uploadID()
	p.do(chromedp.Click(chromedp.CSS("#uploads .cancel")))
	p.says("#uploads .state", "Canceled")
	eventually(t, time.Minute, "the task is canceled", func() bool {
		task, err := p.srv.Task(t.Context(), id)
		return err == nil && task.Status == string(functions.Canceled)
	})
}

// TestPageAsksForTheKey opens the page of a server that wants a key.
func TestPageAsksForTheKey(t *testing.T) {
	p := openPage(t, "--no-auth=false")
	key, err := os.ReadFile(p.srv.APIKey)
	if err != nil {
		t.Fatal(err)
	}
	signIn := func(key string) {
		p.do(chromedp.WaitVisible(chromedp.ID("key")), chromedp.SendKeys(chromedp.ID("key"), key+"\r"))
	}
	signIn("wrong")
	p.says("#key-error", "does not know this key")
	signIn(strings.TrimSpace(string(key)))
	p.choose(p.file("small.txt", 10))
	p.says("#uploads .state", "Task succeeded")
	p.forgive("401")
	if kept := eval[string](p, "JSON.stringify(localStorage) + document.cookie + location.href"); strings.Contains(kept, strings.TrimSpace(string(key))) {
		t.Error("the key is kept longer than the tab")
	}
	p.do(chromedp.Reload())
	p.says("#function", "echo") // the tab still has it
}
