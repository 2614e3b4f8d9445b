"""Workloads: the same list for the same seed, of the shape that they promise."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tiny_llm_kit.workloads import lists as workloads
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.lists import WORKLOADS, chat, heavy_tail, prefill_heavy, shared_prefix, workload

VOCAB_SIZE = 1000


class StubTokenizer:
    """One id a character, between a 1 and a 2 that stand for the template."""

    vocab_size = VOCAB_SIZE

    def apply_chat_template(self, messages: list[dict[str, str]]) -> list[int]:
        assert [message["role"] for message in messages] == ["user"]
        return [1, *(ord(character) for character in messages[0]["content"]), 2]


def test_heavy_tail_default_totals_are_those_of_its_docstring() -> None:
    items = heavy_tail(VOCAB_SIZE)
    assert len(items) == 32
    totals = sum(len(item.prompt) for item in items), sum(item.max_tokens for item in items)
    longest = max(item.max_tokens for item in items)
    assert (*totals, longest) == (3511, 1226, 245)
    assert f"{totals[0]} prompt tokens, {totals[1]} output tokens" in " ".join(str(heavy_tail.__doc__).split())


def test_heavy_tail_lengths_follow_their_distributions() -> None:
    items = heavy_tail(VOCAB_SIZE, seed=1, count=4000)
    prompts = np.array([len(item.prompt) for item in items])
    outputs = np.array([item.max_tokens for item in items])
    assert (prompts.min(), prompts.max()) == (8, 200), "both ends are possible, and 4000 draws of 193 lengths meet them"
    assert (outputs.min(), outputs.max()) == (8, 256)
    # Standard errors over 4000 draws: of a uniform mean 56 / 63 = 0.9, of the median 32 * 0.8 * 1.25 / 63 = 0.5.
    assert abs(prompts.mean() - 104) < 4
    assert abs(np.median(outputs) - 32) < 2
    assert outputs.mean() > 1.2 * np.median(outputs), "a heavy tail pulls the mean above the median"


@pytest.mark.parametrize("make", [heavy_tail, prefill_heavy, shared_prefix])
def test_a_seed_fixes_the_list(make: Callable[..., list[WorkItem]]) -> None:
    assert make(VOCAB_SIZE, seed=5) == make(VOCAB_SIZE, seed=5)
    assert make(VOCAB_SIZE, seed=5) != make(VOCAB_SIZE, seed=6)


def test_lengths_do_not_depend_on_the_vocabulary() -> None:
    small, large = heavy_tail(100), heavy_tail(100_000)
    assert [(len(i.prompt), i.max_tokens) for i in small] == [(len(i.prompt), i.max_tokens) for i in large]


@pytest.mark.parametrize("make", [heavy_tail, prefill_heavy, shared_prefix])
def test_random_prompts_keep_clear_of_special_tokens(make: Callable[..., list[WorkItem]]) -> None:
    tokens = {token for item in make(40) for token in item.prompt}
    assert tokens == set(range(32, 40)), "thousands of draws among 8 ids meet each of them and no other"


def test_prefill_heavy_is_8_prompts_of_512() -> None:
    assert [(len(item.prompt), item.max_tokens) for item in prefill_heavy(VOCAB_SIZE)] == [(512, 32)] * 8


def test_shared_prefix_is_64_prompts_with_one_system_prompt_of_400_tokens() -> None:
    items = shared_prefix(VOCAB_SIZE, seed=3)
    assert [item.max_tokens for item in items] == [32] * 64
    assert len({item.prompt[:400] for item in items}) == 1
    assert len({item.prompt[400] for item in items}) > 32, "from there on the prompts are their own"
    own = [len(item.prompt) - 400 for item in shared_prefix(VOCAB_SIZE, seed=3, count=2000)]
    assert (min(own), max(own)) == (20, 60), "both ends are possible, and 2000 draws of 41 lengths meet them"
    assert set(map(len, {item.prompt for item in items})) <= set(range(420, 461))


def test_requests_arrive_together_unless_told_otherwise() -> None:
    assert {item.arrival for item in heavy_tail(VOCAB_SIZE) + chat(StubTokenizer())} == {0.0}


def test_chat_goes_through_the_template() -> None:
    items = chat(StubTokenizer())
    for item in items:
        assert item.text
        assert item.prompt == (1, *map(ord, item.text), 2)


def test_chat_takes_the_first_and_caps_the_longest() -> None:
    everything = chat(StubTokenizer())
    few = chat(StubTokenizer(), count=5, max_tokens=32)
    assert [item.text for item in few] == [item.text for item in everything[:5]]
    assert [item.max_tokens for item in few] == [min(item.max_tokens, 32) for item in everything[:5]]


def test_chat_prompts_are_many_different_and_heavy_tailed() -> None:
    prompts = json.loads(Path(workloads.CHAT_PROMPTS).read_text(encoding="utf-8"))
    assert len(prompts) >= 36
    for field in ("title", "text"):
        assert len({prompt[field] for prompt in prompts}) == len(prompts), f"two prompts have the same {field}"
    limits = [prompt["max_tokens"] for prompt in prompts]
    assert 16 <= min(limits) <= max(limits) <= 160
    assert np.mean(limits) > 1.2 * np.median(limits)
    words = [len(prompt["text"].split()) for prompt in prompts]
    assert min(words) <= 5
    assert 100 <= max(words) <= 180


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_is_reached_by_name(name: str) -> None:
    items = workload(name, StubTokenizer())
    assert items
    assert all(isinstance(item, WorkItem) and item.prompt and item.max_tokens > 0 for item in items)


def test_options_reach_the_workload() -> None:
    assert workload("heavy-tail", StubTokenizer(), seed=9, count=3) == heavy_tail(VOCAB_SIZE, seed=9, count=3)
    assert workload("chat", StubTokenizer(), count=2) == chat(StubTokenizer(), count=2)


def test_an_unknown_workload_is_answered_with_the_known() -> None:
    with pytest.raises(ValueError, match=r"'heavy'.*heavy-tail, prefill-heavy, shared-prefix, chat"):
        workload("heavy", StubTokenizer())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: heavy_tail(32), "vocab_size is 32"),
        (lambda: heavy_tail(VOCAB_SIZE, count=0), "count is 0"),
        (lambda: prefill_heavy(VOCAB_SIZE, count=0), "count is 0"),
        (lambda: shared_prefix(VOCAB_SIZE, count=-1), "count is -1"),
        (lambda: chat(StubTokenizer(), count=0), "count is 0"),
        (lambda: chat(StubTokenizer(), count=10_000), "ask for 1 to"),
        (lambda: chat(StubTokenizer(), max_tokens=0), "max_tokens is 0"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
