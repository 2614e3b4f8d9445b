"""Which lists of requests a program serves: what its options --workload, --seed, --seeds and --requests ask for."""

from collections.abc import Sequence
from typing import TypeVar

from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.lists import SEEDED, workload
from tiny_llm_kit.workloads.requests import ChatTokenizer

Seed = TypeVar("Seed", bound=int | None)


def choose_seeds(names: Sequence[str], seed: Sequence[int], seeds: int | None) -> Sequence[int | None]:
    """Those of `seed`, or the first `seeds` from 1 on; None stands for the list of a workload without a seed.

    Raises:
        ValueError: if there are both, or one of the workloads knows no seed.
    """
    if seed and seeds:
        raise ValueError("--seed names lists of requests, and --seeds says how many: give one of them")
    for name in names:
        if (seed or seeds) and name not in SEEDED:
            option = "--seed" if seed else "--seeds"
            raise ValueError(f"{option} means nothing to {name}, which is always the same: leave it out")
    return seed or (range(1, seeds + 1) if seeds else [None])


def chosen_lists(
    names: Sequence[str], tokenizer: ChatTokenizer, seeds: Sequence[Seed], requests: int | None
) -> dict[tuple[str, Seed], list[WorkItem]]:
    """The lists by workload and seed, each with this many requests; None: the workload's own number."""
    count = {} if requests is None else {"count": requests}
    return {
        (name, seed): workload(name, tokenizer, **count, **({} if seed is None else {"seed": seed}))
        for name in dict.fromkeys(names)
        for seed in seeds
    }
