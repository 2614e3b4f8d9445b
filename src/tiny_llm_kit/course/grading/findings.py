"""What the guards in the process of the tests have found, with the test that ran at the time."""

from collections.abc import Iterable

from tiny_llm_kit.course.grading.channel import Message, Send


class Findings:
    """Sends each thing once for each test.

    Kinds: "unfair" costs the points of the task whose test runs, or of `tasks`, or, where neither is known, of the tasks of the
    file. "notice" costs nothing.
    """

    def __init__(self, send: Send) -> None:
        self.test: str | None = None
        self._send = send
        self._sent: set[tuple[object, ...]] = set()

    def add(self, kind: str, text: str, place: str = "", tasks: Iterable[str] = ()) -> None:
        message: Message = {"kind": kind, "text": text, "place": place, "test": self.test, "tasks": sorted(tasks)}
        key = (kind, text, place, self.test)
        if key not in self._sent:
            self._sent.add(key)
            self._send(message)
