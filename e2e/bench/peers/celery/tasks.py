"""A Celery application of one task that does nothing, on two queues, one of them
for GPUs, with late acknowledgement, as services that run models often have it.

Each task appends 16 bytes to a file: when its client sent it and when it began.
One write costs microseconds and no round trip, so that what is measured is
Celery and its broker."""
import os
import struct
import time

from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    task_acks_late=True,
    task_ignore_result=True,
    task_default_queue="celery",
    task_routes={"bench.gpu": {"queue": "gpu-tasks"}},
    worker_hijack_root_logger=False,
)

_file = None


def _record(sent):
    global _file
    now = time.time_ns()
    if _file is None:  # once in each worker process
        _file = os.open(os.environ["BENCH_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_file, struct.pack(">QQ", sent, now))


@app.task(name="bench.gpu")
def gpu(sent):
    _record(sent)


@app.task(name="bench.cpu")
def cpu(sent):
    _record(sent)
