"""The schedules of the field by their names, all with the same options: over a model, or simulated with a cost in its place."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from metal_anywhere.backend import backend
from tiny_llm_kit.bench.run import Run, Served
from tiny_llm_kit.bench.simulation import Simulated
from tiny_llm_kit.timeline import Recorder
from tiny_llm_kit.workloads.items import WorkItem, needed_seq_len
from tiny_llm_kit.workloads.paged import PagedSizes, paged_engine

SCHEDULES = ("sequential", "static", "dynamic", "continuous-unchunked", "continuous", "paged")
"""From one request at a time to blocks. `continuous-unchunked` computes each prompt in one piece."""
SIMULATED = ", simulated"
"""What the name of a schedule ends with where it was simulated."""


@dataclass(frozen=True)
class ServingOptions:
    """What a schedule needs to know.

    slots: rows of the batch, or of a group; the paged engine has the memory of as many, unless `sizes` says otherwise.
    max_wait: seconds until a group of `dynamic` starts even if it is not full.
    kernels: of the paged engine.
    """

    slots: int
    prefill_step: int = 128
    max_wait: float = 0.0
    sizes: PagedSizes = field(default_factory=PagedSizes)
    kernels: str | None = None

    def prompt_step(self, schedule: str, items: Sequence[WorkItem]) -> int:
        """Most prompt tokens per step."""
        return max(len(item.prompt) for item in items) if schedule == "continuous-unchunked" else self.prefill_step

    def rows(self, schedule: str) -> int:
        """Rows of its batch, or of its groups."""
        return 1 if schedule == "sequential" else self.slots

    def wait(self, schedule: str) -> float:
        """Seconds until one of its groups starts even if it is not full."""
        return self.max_wait if schedule == "dynamic" else 0.0


def build(answer: ModuleType, model: Any, schedule: str, items: Sequence[WorkItem], options: ServingOptions) -> Any:
    """A new engine of an answer package for these items. `static` takes the waiting requests when its last group is over."""
    if schedule == "paged":
        return paged_engine(answer, model, items, options.slots, options.sizes, options.kernels)
    limits = {"max_seq_len": needed_seq_len(items), "prefill_step": options.prompt_step(schedule, items)}
    if schedule in ("static", "dynamic"):
        return answer.DynamicBatcher(model, options.slots, options.wait(schedule), **limits)
    return answer.ContinuousBatchScheduler(model, options.rows(schedule), **limits)


def record_schedule(name: str, schedule: str, options: ServingOptions) -> Recorder:
    """What records a timeline of what `build` builds."""
    waits = backend() == "cpu"
    if schedule == "paged":
        return Recorder(name, block_size=options.sizes.block_size, launch_waits=waits)
    return Recorder(name, options.rows(schedule), launch_waits=waits)


def simulate(
    answer: ModuleType,
    cost: Any,
    schedule: str,
    items: Sequence[WorkItem],
    options: ServingOptions,
    readers: Sequence[Any] = (),
) -> Any:
    """The `RunRecorder` of a simulation of what `build` builds, with the items coming at their `arrival`."""
    recorder = answer.RunRecorder()
    engine = "slots" if schedule.startswith("continuous") else schedule
    sizes = options.sizes
    if schedule == "paged":
        sizes = replace(sizes, num_blocks=sizes.blocks(options.slots, items))
    simulated = Simulated(
        engine, options.slots, options.prompt_step(schedule, items), max_wait=options.wait(schedule), sizes=sizes
    )
    simulated.run(answer, items, items, cost, readers=[recorder.read, *readers], wanted=recorder.wanted)
    return recorder


def simulated_run(answer: ModuleType, cost: Any, schedule: str, items: Sequence[WorkItem], options: ServingOptions) -> Run:
    """A simulation as if it had been measured. Its tokens are not known, only how many there are, and neither is its memory."""
    recorder = simulate(answer, cost, schedule, items, options)
    times = list(recorder.requests.values())
    served = Served(
        tokens=[[0] * one.generated for one in times],
        ttft=[one.ttft for one in times],
        tpot=[one.tpot for one in times if one.tpot is not None],
        steps=recorder.steps,
        utilization=recorder.used_slots / recorder.offered_slots,
    )
    return Run(served, recorder.ended - recorder.started, peak_memory=0, others=0.0, noisy=False)
