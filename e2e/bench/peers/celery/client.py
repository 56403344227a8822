"""Drives Celery for the benchmarks: one command as a JSON line on standard input,
one answer as a JSON line on standard output, as the program beside this folder."""
import json
import os
import struct
import sys
import threading
import time

from tasks import app, cpu, gpu

RECORD = os.environ["BENCH_RECORD"]


def send(i, queue=None):
    task = gpu if i % 2 else cpu
    task.apply_async((time.time_ns(),), **({"queue": queue} if queue else {}))


def share(numbers, threads, queue):
    """Sends every number, from so many threads of this process."""
    def run(k):
        for i in numbers[k::threads]:
            send(i, queue)

    all_threads = [threading.Thread(target=run, args=(k,)) for k in range(threads)]
    for t in all_threads:
        t.start()
    for t in all_threads:
        t.join()


def enqueue(n, processes, threads, queue=None):
    """Sends n tasks from processes of some threads each: one would be bound by its
    interpreter's lock."""
    children = []
    for p in range(processes):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                share(range(p, n, processes), threads, queue)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    for pid in children:
        _, status = os.waitpid(pid, 0)
        if status:
            raise RuntimeError("a client process failed")


def wait(n, seconds):
    end = time.monotonic() + seconds
    while not os.path.exists(RECORD) or os.path.getsize(RECORD) < 16 * n:
        if time.monotonic() > end:
            raise RuntimeError("not all tasks were done in %d s" % seconds)
        time.sleep(0.005)


def do(c):
    if os.path.exists(RECORD):
        os.truncate(RECORD, 0)
    began = time.monotonic()
    n = c["n"]
    if c["do"] == "enqueue":
        enqueue(n, c["processes"], c["clients"] // c["processes"], "parked")
        took = time.monotonic() - began
        with app.connection_for_write() as conn:
            conn.default_channel.queue_purge("parked")
        return {"enqueue_seconds": took}
    if c["do"] == "drain":
        enqueue(n, c["processes"], c["clients"] // c["processes"])
        sent = time.monotonic() - began
        wait(n, 600)
        return {"enqueue_seconds": sent, "total_seconds": time.monotonic() - began}
    if c["do"] == "latency":
        for i in range(n):
            time.sleep(max(0, began + i / c["per_second"] - time.monotonic()))
            send(i)
        wait(n, 60)
        with open(RECORD, "rb") as f:
            return {"latency_ms": [(b - a) / 1e6 for a, b in struct.iter_unpack(">QQ", f.read(16 * n))]}
    raise ValueError("there is no command " + c["do"])


for line in sys.stdin:
    command = json.loads(line)
    try:
        answer = do(command)
    except Exception as e:
        answer = {"error": repr(e)}
    print(json.dumps(answer), flush=True)
