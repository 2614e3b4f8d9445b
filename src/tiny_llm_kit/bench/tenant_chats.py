"""What several tenants ask real servers, and what the servers compute for it: counts, which no other program disturbs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from tiny_llm_kit.workloads.lists import LIGHTHOUSE

SYSTEM_WORDS = 260
"""Words of a system prompt, about 300 tokens; a question has a tenth of that."""
QUESTION_WORDS = 26
COLUMNS = ["router", "computed", "of the prompts", "÷ one server", "max/mean load", "equal answers", "errors"]
KILLED_COLUMNS = ["router", "streams", "whole and equal", "broken off", "no answer at all"]
_COUNTERS = ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total", "vllm:generation_tokens_total")


@dataclass(frozen=True)
class Counts:
    """Tokens that one server has counted since it started: looked for in its prefix cache, found there, and generated."""

    looked_up: int
    found: int
    generated: int

    @property
    def computed(self) -> int:
        """Prompt tokens that no cache had."""
        return self.looked_up - self.found

    @property
    def work(self) -> int:
        return self.computed + self.generated


@dataclass(frozen=True)
class Measured:
    """One router with the list: the counts of each server, and of its answers how many were equal and how many failed."""

    router: str
    servers: tuple[Counts, ...]
    requests: int
    equal: int
    errors: int

    @property
    def computed(self) -> int:
        return sum(one.computed for one in self.servers)

    @property
    def prompts(self) -> int:
        return sum(one.looked_up for one in self.servers)

    @property
    def imbalance(self) -> float:
        """The work of the busiest server over the mean."""
        works = [one.work for one in self.servers]
        return max(works) * len(works) / sum(works)


@dataclass(frozen=True)
class Killed:
    """Streams that were open, or about to be, when a server was killed; the remaining ones were answered, but wrongly."""

    router: str
    streams: int
    equal: int
    broken: int
    unanswered: int


def chats(tenants: int, count: int, max_tokens: int, seed: int = 0) -> list[dict[str, Any]]:
    """Bodies for `/v1/completions`: each tenant has a system prompt of its own, and each request a question.

    Tenants are of unequal size: the n-th sends in proportion to 1 / n. Prompts are texts, since a router that reads bodies
    compares texts; their words are drawn from a story.

    Raises:
        ValueError: if there is not at least one tenant and one request.
    """
    if tenants < 1 or count < 1:
        raise ValueError(f"{tenants} tenants and {count} requests: there must be at least 1 of each")
    random = np.random.Generator(np.random.PCG64(seed))
    words = LIGHTHOUSE.read_text(encoding="utf-8").split()
    systems = [" ".join(random.choice(words, SYSTEM_WORDS)) for _ in range(tenants)]
    weights = 1 / np.arange(1, tenants + 1)
    return [
        {
            "prompt": f"{systems[tenant]}\n\n{' '.join(random.choice(words, QUESTION_WORDS))}\n\n",
            "user": f"tenant {tenant}",
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
        }
        for tenant in random.choice(tenants, size=count, p=weights / weights.sum())
    ]


def read_counts(metrics: str) -> Counts:
    """The counts in a server's `/metrics`, in Prometheus' text format, under vLLM's names.

    Raises:
        ValueError: if one of the counters is not there, with its name.
    """
    samples = {
        sample.name: int(sample.value) for family in text_string_to_metric_families(metrics) for sample in family.samples
    }
    if missing := [name for name in _COUNTERS if name not in samples]:
        raise ValueError(f"/metrics has no {missing[0]}")
    return Counts(*(samples[name] for name in _COUNTERS))


def rows(found: Sequence[Measured]) -> list[list[str]]:
    """A row per router; the first is the one that others are compared with."""
    return [
        [
            one.router,
            f"{one.computed:,}",
            f"{one.computed / one.prompts:.0%}",
            f"{one.computed / found[0].computed:.2f}",
            f"{one.imbalance:.2f}" if len(one.servers) > 1 else "—",
            f"{one.equal} of {one.requests}",
            str(one.errors),
        ]
        for one in found
    ]


def killed_rows(found: Sequence[Killed]) -> list[list[str]]:
    return [[one.router, str(one.streams), str(one.equal), str(one.broken), str(one.unanswered)] for one in found]
