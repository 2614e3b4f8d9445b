"""What a load test of a server finds: each request as its client saw it, and each stage of rising load.

Knows no server and no locust: numbers, texts and times.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from tiny_llm_kit.workloads.lists import LIGHTHOUSE

REFUSED = (429, 503)
"""What a server that has too much to do may say."""

CLEAR = 1e-3
"""Nats between the best two tokens. Closer ones may swap places in a batch, which sums in another order: that is not an
error."""


@dataclass(frozen=True)
class Answer:
    """text, tokens: all of it, and how many. finish_reason: of OpenAI's."""

    text: str
    tokens: int
    finish_reason: str | None


class Outcome(StrEnum):
    EQUAL = "equal"
    DIFFERENT = "different"
    REFUSED = "refused"
    BROKEN = "broken"
    OTHER = "other"


@dataclass(frozen=True)
class Seen:
    """One request, in seconds on the machine's monotonic clock.

    item: its place in the list. status: 0 if there was none. first: when its first text came. answer: what it got, as far as it
    got. complete: whether the stream said that it was. error: what broke it.
    """

    item: int
    sent: float
    ended: float
    status: int
    first: float | None
    answer: Answer
    complete: bool
    error: str | None

    def outcome(self, alone: Sequence[Answer]) -> Outcome:
        """alone: the answer that each item of the list gets alone."""
        if self.status in REFUSED:
            return Outcome.REFUSED
        if self.status not in (0, 200):
            return Outcome.OTHER
        if self.error or not self.complete:
            return Outcome.BROKEN
        return Outcome.EQUAL if self.answer == alone[self.item] else Outcome.DIFFERENT


@dataclass(frozen=True)
class Sample:
    """The server at one moment: bytes of memory, waiting and running requests, and the share of its blocks or slots in use."""

    time: float
    rss: int
    waiting: int
    running: int
    kv_used: float


def bodies(count: int, seed: int, model: str) -> list[dict[str, Any]]:
    """Short greedy requests: some words of a story each, for 4 to 16 tokens. The same for the same arguments."""
    words = LIGHTHOUSE.read_text(encoding="utf-8").split()
    random = np.random.default_rng(seed)
    found = []
    for length, max_tokens in zip(random.integers(6, 24, count), random.integers(4, 16, count, endpoint=True), strict=True):
        start = int(random.integers(0, len(words) - int(length)))
        prompt = " ".join(words[start : start + int(length)])
        found.append({"model": model, "prompt": prompt, "max_tokens": int(max_tokens), "temperature": 0})
    return found


def is_clear(top_logprobs: Iterable[Mapping[str, float]]) -> bool:
    """Whether each token of a greedy answer was the best by far: then it is the same in every batch."""
    gaps = (sorted(best.values(), reverse=True)[:2] for best in top_logprobs)
    return all(len(gap) < 2 or gap[0] - gap[1] > CLEAR for gap in gaps)


def read_records(text: str) -> tuple[float, list[Seen]]:
    """When a stage began, and its requests: what `served_locustfile` has written.

    Raises:
        ValueError: if it has written nothing.
    """
    began, seen = None, []
    for record in map(json.loads, text.splitlines()):
        if "began" in record:
            began = record["began"]
        else:
            seen.append(read_record(record))
    if began is None:
        raise ValueError("locust wrote no records: its own output says why")
    return began, seen


def read_record(record: dict[str, Any]) -> Seen:
    """Put the events of a stream together. An error event, or one that is not JSON, breaks it."""
    text, tokens, reason, first, complete = "", 0, None, None, False
    error = record["error"]
    for time, line in record["lines"] if record["status"] == 200 else []:
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            complete = True
            continue
        try:
            event = json.loads(data)
        except ValueError:
            event = {"error": f"no event: {line!r}"}
        if complete or "error" in event:
            error = error or str(event.get("error", f"an event after the end: {line!r}"))
        for choice in event.get("choices", []):
            text += choice["text"]
            reason = choice["finish_reason"] or reason
            first = time if first is None and choice["text"] else first
        tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    answer = Answer(text, tokens, reason)
    return Seen(record["item"], record["sent"], record["ended"], record["status"], first, answer, complete, error)


@dataclass(frozen=True)
class Stage:
    """A time of constant load, after a warm-up of the same load.

    name: what was offered, for people. offered: requests per second; None: by clients in a closed loop.
    began, warm_up, seconds: of the load. counted: requests by locust's own count. left: the server when all was answered.
    healthy: what `/health` said then.
    """

    name: str
    offered: float | None
    began: float
    warm_up: float
    seconds: float
    seen: list[Seen]
    outcomes: list[Outcome]
    samples: list[Sample]
    counted: int
    left: Sample
    healthy: bool

    def count(self, outcome: Outcome) -> int:
        """How many of all requests ended like this, those of the warm-up included."""
        return self.outcomes.count(outcome)

    @property
    def measured(self) -> list[Seen]:
        """Those that were sent after the warm-up."""
        return [one for one in self.seen if one.sent >= self.began + self.warm_up]

    @property
    def statuses(self) -> Counter[int]:
        return Counter(one.status for one in self.measured)

    @property
    def answered(self) -> list[Seen]:
        return [one for one in self.measured if one.status == 200 and one.complete]

    def throughput(self) -> float:
        """Answers per second that ended within the measured time."""
        begin = self.began + self.warm_up
        return sum(one.complete and begin <= one.ended < begin + self.seconds for one in self.seen) / self.seconds

    def tokens_per_second(self) -> float:
        return sum(one.answer.tokens for one in self.answered) / self.seconds

    def ttft(self, percent: float) -> float | None:
        return _percentile([one.first - one.sent for one in self.answered if one.first is not None], percent)

    def latency(self, percent: float) -> float | None:
        return _percentile([one.ended - one.sent for one in self.answered], percent)

    def most_waiting(self) -> int:
        return max(one.waiting for one in [*self.samples, self.left])

    def rss(self) -> tuple[float, float]:
        """Bytes after the warm-up and at the end: medians of the first and last tenth of the measured time, under load both."""
        begin, tenth = self.began + self.warm_up, self.seconds / 10
        within = [one for one in self.samples if begin <= one.time <= begin + self.seconds] or [self.left]
        early = [one.rss for one in within if one.time <= within[0].time + tenth]
        late = [one.rss for one in within if one.time >= within[-1].time - tenth]
        return float(np.median(early)), float(np.median(late))

    def growth(self) -> float:
        """How much the memory grew, as a share of what it was after the warm-up."""
        early, late = self.rss()
        return late / early - 1


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None
