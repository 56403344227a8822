"""Writes down what is said in a sound or a film, on a GPU or on a CPU.

The device is the one that TASK_DEVICE names and is never looked for: an attempt
that was given a GPU uses it or exits with 79, so that it is run again on a CPU.
"""

import json
import os
import sys

EXIT_USAGE, EXIT_DATA, EXIT_NO_INPUT, EXIT_DEVICE = 64, 65, 66, 79

# What CTranslate2 and CUDA say when the device, and not the sound, is at fault.
DEVICE_WORDS = ("cuda", "cudnn", "cublas", "out of memory", "float16")


class Fault(Exception):
    def __init__(self, code, kind, message):
        super().__init__(message)
        self.code, self.kind = code, kind


def write_result(document):
    with open(os.environ["TASK_RESULT_FILE"], "w", encoding="utf-8") as f:
        json.dump(document, f, ensure_ascii=False)
        f.write("\n")


def progress(fraction, stage):
    path = os.environ.get("TASK_PROGRESS_FILE")
    if path:
        with open(path, "a", encoding="utf-8") as f:
            f.write(f"{fraction:.3f} {stage}\n")


def timestamp(seconds, comma=","):
    ms = round(seconds * 1000)
    h, ms = divmod(ms, 3_600_000)
    m, ms = divmod(ms, 60_000)
    s, ms = divmod(ms, 1000)
    return f"{h:02}:{m:02}:{s:02}{comma}{ms:03}"


def options(call):
    o = {"language": None, "translate": False}
    for part in (call.get("event"), call.get("params")):
        if isinstance(part, dict):
            o.update({k: part[k] for k in o if k in part})
    if o["language"] is not None and not isinstance(o["language"], str):
        raise Fault(EXIT_USAGE, "BadLanguage", "language is not a code such as en")
    return o


def load_model(device):
    from faster_whisper import WhisperModel

    name = os.environ.get("WHISPER_MODEL", "small")
    path = os.path.join("/models", name)
    if not os.path.isdir(path):
        raise Fault(EXIT_USAGE, "NoModel", f"the image holds no model {name}")
    return name, WhisperModel(
        path,
        device="cuda" if device == "gpu" else "cpu",
        compute_type=os.environ.get("WHISPER_COMPUTE", "int8"),
        cpu_threads=int(os.environ.get("OMP_NUM_THREADS") or 0),
        local_files_only=True,
    )


def run():
    with open(os.environ["TASK_EVENT_FILE"], encoding="utf-8") as f:
        call = json.load(f)
    o = options(call)
    inputs = call.get("inputs") or []
    if not inputs:
        raise Fault(EXIT_NO_INPUT, "NoInput", "no input file; upload one with the call")
    sound = os.path.join(os.environ["TASK_INPUT_DIR"], inputs[0]["name"])
    out = os.environ["TASK_OUTPUT_DIR"]
    device = os.environ.get("TASK_DEVICE", "cpu")

    progress(0, "load model")
    try:
        name, model = load_model(device)
    except (RuntimeError, ValueError) as e:
        if device == "gpu":
            raise Fault(EXIT_DEVICE, "DeviceUnusable", f"the GPU cannot be used here: {e}") from e
        raise

    import av  # decodes; comes with faster-whisper

    segments = []
    try:
        found, info = model.transcribe(
            sound,
            language=o["language"],
            task="translate" if o["translate"] else "transcribe",
            vad_filter=True,
        )
        with (
            open(os.path.join(out, "transcript.txt"), "w", encoding="utf-8") as text,
            open(os.path.join(out, "transcript.srt"), "w", encoding="utf-8") as srt,
        ):
            for i, s in enumerate(found, 1):
                line = s.text.strip()
                text.write(line + "\n")
                srt.write(f"{i}\n{timestamp(s.start)} --> {timestamp(s.end)}\n{line}\n\n")
                segments.append({"start": round(s.start, 3), "end": round(s.end, 3), "text": line})
                if info.duration:
                    progress(min(1, s.end / info.duration), "transcribe")
    except av.error.FFmpegError as e:
        raise Fault(EXIT_DATA, "NotMedia", f"the input cannot be read as sound or film: {e}") from e
    except RuntimeError as e:
        if device == "gpu" and any(w in str(e).lower() for w in DEVICE_WORDS):
            raise Fault(EXIT_DEVICE, "DeviceUnusable", f"the GPU failed: {e}") from e
        raise

    return {
        "language": info.language,
        "duration": round(info.duration, 3),
        "text": " ".join(s["text"] for s in segments)[:4000],
        "segments": len(segments),
        "files": ["transcript.txt", "transcript.srt"],
        "model": name,
        "device": device,
    }


def main():
    try:
        write_result(run())
        return 0
    except Fault as f:
        code, kind, message = f.code, f.kind, str(f)
    except Exception as e:  # the function's own error: its retry policy decides
        code, kind, message = 1, type(e).__name__, str(e)
    print(f"{kind}: {message}", file=sys.stderr)
    retryable = code not in (EXIT_USAGE, EXIT_DATA, EXIT_NO_INPUT)
    write_result({"error": {"type": kind, "message": message, "retryable": retryable}})
    return code


if __name__ == "__main__":
    sys.exit(main())
