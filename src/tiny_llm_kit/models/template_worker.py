"""The process in which chat templates are rendered: `chat_template` starts it; JSON objects go in and out, one per line.

A template is a program that comes with a model. Jinja's sandbox keeps it from files, but not from endless loops or huge
strings; the operating system stops a process that tries either, whatever the template is doing.
"""

import contextlib
import json
import resource
import signal
import sys
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_LONGEST_TEXT, _LONGEST_ERROR = 2**24, 500  # characters


def main(cpu_seconds: float, memory_bytes: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the program, which ends this process
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit; there the time is all that bounds the memory
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)  # SIGPROF ends the process, even in the middle of one operation
        answer = json.dumps(_answer(json.loads(line)))
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(answer, flush=True)


def _answer(request: dict[str, Any]) -> dict[str, str]:
    try:
        text = _compile(request["template"]).render(request["variables"])
        if len(text) <= _LONGEST_TEXT:
            return {"text": text}
        return {"error": f"it wrote {len(text)} characters, more than {_LONGEST_TEXT}"}
    except MemoryError:
        return {"error": "it needed too much memory"}
    except TemplateError as error:
        return {"error": f"{error}"[:_LONGEST_ERROR]}
    except Exception as error:  # whatever the template did
        return {"error": f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]}


@lru_cache(maxsize=8)
def _compile(template: str) -> Template:
    """With what templates find in transformers: https://huggingface.co/docs/transformers/chat_templating_writing"""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _raise, "strftime_now": lambda format: datetime.now().strftime(format)}
    return environment.from_string(template)


class _Generation(Extension):
    """{% generation %} marks the assistant's words for training; here they are words like all others."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """Jinja's own would escape what is special in HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise(message: str) -> None:
    raise TemplateError(message)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
