"""What the process of the tests tells its supervisor: lines, signed with a secret that both had before the answer was there."""

import hashlib
import hmac
import json
import os
import threading
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]
Send = Callable[[Message], None]

LONGEST_LINE = 1 << 20

FIELDS: dict[str, dict[str, Any]] = {
    "item": {"test": str},
    "begin": {"test": str},
    "result": {"test": str, "outcome": str, "why": str},
    "uncollected": {"file": str, "why": str},
    "unfair": {"text": str, "place": str, "test": str | None, "tasks": list},
    "notice": {"text": str, "place": str, "test": str | None, "tasks": list},
    "end": {"complete": bool},
}
"""What a message of each kind holds besides its kind. An answer may find the function that signs, and send anything."""


def make_sender(secret: bytes, descriptor: int) -> Send:
    """A function that sends a message. Forks of this process cannot: an answer must not go on unobserved."""
    own, number, one_by_one = os.getpid(), 0, threading.RLock()

    def send(message: Message) -> None:
        nonlocal number
        if os.getpid() == own:
            with one_by_one:  # an answer's threads may be found unfair at the same time
                number += 1
                text = f"{number} {json.dumps(message)}"
                os.write(descriptor, f"{_sign(secret, text)} {text}\n".encode())

    return send


class Receiver:
    """Takes the lines apart again. What is not signed, comes a second time, or is no message is counted and left out."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._rest = b""
        self._last = 0
        self.messages: list[Message] = []
        self.forged = 0

    def feed(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > LONGEST_LINE:
            self._rest, self.forged = b"", self.forged + 1

    def _take(self, line: bytes) -> None:
        signature, _, text = line.decode(errors="replace").partition(" ")
        number, _, message = text.partition(" ")
        if hmac.compare_digest(signature.encode(), _sign(self._secret, text).encode()) and int(number) > self._last:
            self._last = int(number)
            self._add(json.loads(message))
        else:
            self.forged += 1

    def _add(self, message: Any) -> None:
        if _is_message(message):
            self.messages.append(message)
        else:
            self.forged += 1


def _is_message(message: Any) -> bool:
    fields = FIELDS.get(str(message.get("kind")), {}) if isinstance(message, dict) else {}
    whole = bool(fields) and message.keys() == {"kind", *fields}
    return whole and all(isinstance(message[name], kind) for name, kind in fields.items())


def _sign(secret: bytes, text: str) -> str:
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
