"""The law of batching on an answer package's real engines, and what `pdm run bench` has measured of them."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

from tiny_llm_kit.bench.engines import AnswerEngines
from tiny_llm_kit.bench.law import PROMPT
from tiny_llm_kit.bench.ledger import Key
from tiny_llm_kit.bench.over_seeds import Spread, over_seeds
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.lengths import CHAT, drawn
from tiny_llm_kit.workloads.lists import plain_prompt

ENGINES = ("sequential", "static", "continuous")
WORKLOAD = "heavy-tail"
"""The workload of `bench` whose answers are like those measured here."""


@dataclass(frozen=True)
class Ran:
    """How an engine served a list of requests."""

    seconds: float
    steps: int
    utilization: float


@dataclass(frozen=True)
class MeasuredRow:
    """The engines over as many lists of answers as there are seeds, with `rows` slots.

    law, counted: of the same lists, see `LawRow`. steps, seconds: static over continuous. sequential: seconds of it, over
    those of continuous.
    """

    rows: int
    law: Spread
    counted: Spread
    steps: Spread
    seconds: Spread
    sequential: Spread
    static_utilization: Spread
    continuous_utilization: Spread

    def figures(self) -> dict[Key, Spread]:
        """What the ledger looks for."""
        return {
            ("static", "continuous", self.rows): self.seconds,
            ("sequential", "continuous", self.rows): self.sequential,
            (None, "static", self.rows): self.static_utilization,
            (None, "continuous", self.rows): self.continuous_utilization,
        }


def measured_row(
    answer: ModuleType,
    model: Any,
    rows: int,
    seeds: Sequence[int],
    rounds: int,
    prefill_step: int,
    on_run: Callable[[str], object],
) -> MeasuredRow:
    """Serve lists of `rounds` requests per row with each engine."""
    lists = [drawn(CHAT, seed, rounds * rows) for seed in seeds]
    runs = []
    for lengths in lists:
        items = [WorkItem(tuple(plain_prompt(PROMPT, place)), length) for place, length in enumerate(lengths)]
        engines = AnswerEngines(answer, model, items, prefill_step)
        AnswerEngines(answer, model, items[:rows], prefill_step).static(rows)  # what comes first is slower
        by_engine = {}
        for engine in ENGINES:
            by_engine[engine] = _run(getattr(engines, engine), rows)
            on_run(engine)
        runs.append(by_engine)

    def over_continuous(engine: str, figure: Callable[[Ran], float]) -> Spread:
        return over_seeds([figure(ran[engine]) / figure(ran["continuous"]) for ran in runs])

    return MeasuredRow(
        rows=rows,
        law=over_seeds([answer.predicted_ratio(lengths, rows) for lengths in lists]),
        counted=over_seeds([answer.static_steps(n, rows) / answer.continuous_steps(n, rows) for n in lists]),
        steps=over_continuous("static", lambda ran: ran.steps),
        seconds=over_continuous("static", lambda ran: ran.seconds),
        sequential=over_continuous("sequential", lambda ran: ran.seconds),
        static_utilization=over_seeds([ran["static"].utilization for ran in runs]),
        continuous_utilization=over_seeds([ran["continuous"].utilization for ran in runs]),
    )


def _run(serve: Callable[[int], Any], rows: int) -> Ran:
    started = time.perf_counter()
    served = serve(rows)
    return Ran(time.perf_counter() - started, served.steps, served.utilization)


def figures_of_bench(path: Path) -> dict[Key, Spread]:
    """What a JSON file that `pdm run bench` wrote says about the workload heavy-tail.

    Raises:
        ValueError: if it cannot be read, is no such file, or says nothing of it.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))["results"]
        found = {
            (result["workload"], result["engine"], result["slots"]): result
            for result in results
            if result["workload"].startswith(WORKLOAD) and result["tokens_per_second"]
        }
        figures = _figures(found)
    except OSError as error:
        raise ValueError(f"cannot read {str(path)!r} ({error.strerror}): give a file that pdm run bench wrote") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{str(path)!r} is not a JSON file that pdm run bench wrote: give one") from None
    if not figures:
        raise ValueError(f"{str(path)!r} holds no quiet run of {WORKLOAD} with static or continuous: give another file")
    return figures


def _figures(found: Mapping[tuple[str, str, int], Mapping[str, Any]]) -> dict[Key, Spread]:
    figures: dict[Key, list[float]] = {}
    for (workload, engine, slots), result in found.items():
        quiet = [run["utilization"] for run in result["runs"] if not run["noisy"]]
        if engine in ("static", "continuous") and quiet:
            figures.setdefault((None, engine, slots), []).append(median(quiet))
        if engine == "continuous":
            for baseline, rows in (("static", slots), ("sequential", 1)):
                if other := found.get((workload, baseline, rows)):
                    ratio = result["tokens_per_second"] / other["tokens_per_second"]
                    figures.setdefault((baseline, engine, slots), []).append(ratio)
    return {key: over_seeds(values) for key, values in figures.items()}
