"""Lists of requests to measure an engine with: the same list for the same arguments, on every machine.

It says only what a server is asked for, without a model or an engine: token ids come from a vocabulary size or, if the prompts
are real text, from a tokenizer.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.lengths import CHAT
from tiny_llm_kit.workloads.prompts import read_prompts
from tiny_llm_kit.workloads.requests import ChatTokenizer, in_chat_form, shortened

FIRST_PLAIN_TOKEN = 32
"""Vocabularies begin with special tokens; random prompts take ids from here on."""

PLAIN_TOKENS = 64
"""The number of ids that prompts cycle through if only their length matters."""

CHAT_PROMPTS = Path(__file__).parent / "data" / "chat_prompts.json"
LIGHTHOUSE = Path(__file__).parent / "data" / "lighthouse.txt"
"""A story in plain English."""


def plain_prompt(length: int, first: int = 0) -> list[int]:
    """A prompt in which only the length matters; a different `first` makes a different one."""
    return [FIRST_PLAIN_TOKEN + (first + place) % PLAIN_TOKENS for place in range(length)]


def heavy_tail(vocab_size: int, seed: int = 1661, count: int = 32) -> list[WorkItem]:
    """Random prompts of 8 to 200 tokens, uniform; outputs of 8 to 256, log-normal with median 32 and sigma 0.8.

    Requests to chat servers are like this: most answers are short, a few are long, and a batch that waits for its longest
    member wastes most of its slots. (Orca, OSDI 2022, section 3, is about that waste.) The default list is one whose tail is
    long: 3511 prompt tokens, 1226 output tokens, of which the longest request has 245.
    """
    _check_count(count)
    random = _generator(seed)
    prompt_lengths = random.integers(8, 200, size=count, endpoint=True)
    return _random_prompts(random, vocab_size, prompt_lengths.tolist(), CHAT(random, count))


def prefill_heavy(vocab_size: int, seed: int = 0, count: int = 8) -> list[WorkItem]:
    """Random prompts of 512 tokens, each asking for 32: reading takes more than writing, as in summarizing."""
    _check_count(count)
    return _random_prompts(_generator(seed), vocab_size, [512] * count, [32] * count)


def shared_prefix(vocab_size: int, seed: int = 0, count: int = 64) -> list[WorkItem]:
    """Random prompts that begin with the same 400 tokens and go on with 20 to 60 of their own, uniform; each asks for 32.

    A service whose requests all have the same system prompt is like this: 400 of about 440 tokens are the same work again.
    """
    _check_count(count)
    random = _generator(seed)
    own_lengths = random.integers(20, 60, size=count, endpoint=True).tolist()
    (system,) = _random_prompts(random, vocab_size, [400], [32])
    own = _random_prompts(random, vocab_size, own_lengths, [32] * count)
    return [replace(item, prompt=system.prompt + item.prompt) for item in own]


def chat(tokenizer: ChatTokenizer, count: int | None = None, max_tokens: int | None = None) -> list[WorkItem]:
    """The first `count` (all, if None) of the real prompts, as a chat model reads them, each with its own max_tokens.

    `max_tokens` lowers those that want more.
    """
    prompts = read_prompts(CHAT_PROMPTS)
    count = len(prompts) if count is None else count
    if not 1 <= count <= len(prompts):
        raise ValueError(f"count is {count}; there are {len(prompts)} chat prompts: ask for 1 to {len(prompts)}")
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; a request wants at least 1 token")
    return in_chat_form(shortened(prompts[:count], max_tokens), tokenizer)


def copying(tokenizer: ChatTokenizer, count: int = 12, max_tokens: int = 96) -> list[WorkItem]:
    """Passages of a story, each with the request to repeat it word for word: most of an answer is in its prompt.

    The passages are three sentences long, about 60 words, and an answer may be a little longer.
    """
    sentences = re.split(r"(?<=[.?!])\s+", LIGHTHOUSE.read_text().strip())
    passages = [" ".join(sentences[at : at + 3]) for at in range(0, len(sentences) - 2, 3)]
    if not 1 <= count <= len(passages):
        raise ValueError(f"count is {count}; there are {len(passages)} passages to copy: ask for 1 to {len(passages)}")
    texts = [f"Repeat the following text word for word, and write nothing else:\n\n{passage}" for passage in passages[:count]]
    items = [WorkItem((), max_tokens, text=text, title=f"passage {number}") for number, text in enumerate(texts, start=1)]
    return in_chat_form(items, tokenizer)


WORKLOADS: dict[str, Callable[..., list[WorkItem]]] = {
    "heavy-tail": heavy_tail,
    "prefill-heavy": prefill_heavy,
    "shared-prefix": shared_prefix,
    "chat": chat,
    "copying": copying,
}
SEEDED = ("heavy-tail", "prefill-heavy", "shared-prefix")
"""Those that give a different list for a different `seed`."""
TEXTS = ("chat", "copying")
"""Those of real text, which need the model's own tokenizer."""


def workload(name: str, tokenizer: ChatTokenizer, **options: Any) -> list[WorkItem]:
    """The workload called `name` in WORKLOADS, for the vocabulary of `tokenizer`; `options` are the function's own."""
    if name not in WORKLOADS:
        raise ValueError(f"no workload is called {name!r}; there are: {', '.join(WORKLOADS)}")
    return WORKLOADS[name](tokenizer if name in TEXTS else tokenizer.vocab_size, **options)


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"count is {count}; a workload has at least 1 request")


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _random_prompts(
    random: np.random.Generator, vocab_size: int, prompt_lengths: list[int], output_lengths: list[int]
) -> list[WorkItem]:
    if vocab_size <= FIRST_PLAIN_TOKEN:
        raise ValueError(f"vocab_size is {vocab_size}; random prompts need more than {FIRST_PLAIN_TOKEN} token ids")
    return [
        WorkItem(tuple(random.integers(FIRST_PLAIN_TOKEN, vocab_size, size=length).tolist()), max_tokens)
        for length, max_tokens in zip(prompt_lengths, output_lengths, strict=True)
    ]
