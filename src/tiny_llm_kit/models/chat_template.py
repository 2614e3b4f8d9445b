"""A chat template, rendered: the text of a conversation in the form that a model was trained on.

The template comes with the model, so it is rendered in another process (`template_worker`), which is started once, answers in
a fraction of a millisecond, and may die from a bad template without harm.
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

_CPU_SECONDS = 1  # not those of the clock: a busy machine is not the template's fault
_MEMORY_BYTES = 2**30

_lock = threading.Lock()
_worker: subprocess.Popen[str] | None = None
_owner: int | None = None  # the process that started the worker; one forked off it must start its own


def render(template: str, variables: dict[str, Any]) -> str:
    """The text that a Jinja `template` makes of `variables`, which are plain JSON values.

    Raises ValueError if the template fails, or takes more CPU time or memory than rendering a conversation ever needs.
    """
    with _lock:
        try:
            line = _ask(json.dumps({"template": template, "variables": variables}))
        except BaseException:  # Ctrl-C, too: an unread answer must not be taken for the next one
            _stop()
            raise
    answer = json.loads(line)
    if "error" in answer:
        raise ValueError(f"the model's chat template fails: {answer['error']}")
    return answer["text"]


def _ask(request: str) -> str:
    worker = _running()
    assert worker.stdin is not None
    assert worker.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # the worker has ended, and the next line is empty
        worker.stdin.write(request + "\n")
        worker.stdin.flush()
    if line := worker.stdout.readline():
        return line
    if (status := worker.wait()) == -signal.SIGPROF:
        raise ValueError(f"the model's chat template fails: it took more than {_CPU_SECONDS} s of CPU time")
    raise ValueError(f"the model's chat template fails: the process that renders it ended with status {status}")


def _running() -> subprocess.Popen[str]:
    global _worker, _owner
    if _worker is None or _owner != os.getpid() or _worker.poll() is not None:
        program = Path(__file__).with_name("template_worker.py")
        # -P: the program's folder has modules of ours, which must not hide Python's own from it.
        command = [sys.executable, "-P", str(program), str(_CPU_SECONDS), str(_MEMORY_BYTES)]
        _worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="ascii")
        _owner = os.getpid()
    return _worker


@atexit.register
def _stop() -> None:
    global _worker
    if _worker is not None and _owner == os.getpid():
        _worker.kill()
        _worker.communicate()
    _worker = None
