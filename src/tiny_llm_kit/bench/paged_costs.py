"""What the steps of the paged engine cost: gaps for others, plans, memory, and where the time goes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

from tiny_llm_kit.bench import build_time, gaps, paged_profile, peak_memory, plan_time
from tiny_llm_kit.bench.build_time import BuildTime
from tiny_llm_kit.bench.decisions import Decision
from tiny_llm_kit.bench.gaps import Gaps
from tiny_llm_kit.bench.report import Table, Target
from tiny_llm_kit.bench.step_times import StepTimes

PARTS = len(gaps.BUDGETS) + 3
"""That `measure_costs` announces."""

BUILD_COLUMNS = ["building a step of 8 rows", "processor time", "operations"]


@dataclass(frozen=True)
class Costs:
    """`step_seconds` is a decode step of 8 rows, `peak` a multiple of the pool and the weights, `profile` see `step_parts`."""

    gaps: Mapping[int, Gaps]
    plans: Mapping[tuple[int, int], Decision]
    peak: float
    step_seconds: float
    profile: Sequence[Mapping[str, float]]
    building: Mapping[str, BuildTime]

    def targets(self, quiet: bool = True) -> list[Target]:
        """quiet: whether times of the clock on the wall count."""
        return [
            *gaps.targets(self.gaps if quiet else {}),
            *plan_time.targets(self.plans, self.step_seconds),
            peak_memory.target(self.peak),
        ]

    def tables(self) -> list[Table]:
        building = [[name, f"{time.seconds * 1e3:.2f} ms", str(time.nodes)] for name, time in self.building.items()]
        prompt = f"{gaps.ROWS} requests decode while a prompt of {gaps.PROMPT} tokens is read"
        return [
            Table(prompt, gaps.COLUMNS, gaps.rows(self.gaps)),
            Table("plans of the paged engine, processor time", plan_time.COLUMNS, plan_time.rows(self.plans)),
            Table("a step of the paged engine, rows of 160 tokens", paged_profile.COLUMNS, paged_profile.rows(self.profile)),
            Table("describing a decode step to MLX", BUILD_COLUMNS, building),
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "gaps_seconds": gaps.as_json(self.gaps),
            "plan_microseconds": [asdict(plan) for plan in self.plans.values()],
            "peak_over_pool_and_weights": self.peak,
            "step_seconds": self.step_seconds,
            "profile_seconds": dict(zip(paged_profile.STEPS, self.profile, strict=True)),
            "building": {name: asdict(time) for name, time in self.building.items()},
        }


def measure_costs(answer: ModuleType, model: Any, kernels: str | None, begin: Callable[[str], None]) -> Costs:
    """Measure all; `begin` is told what comes next."""
    found: dict[int, Gaps] = {}
    for budget in gaps.BUDGETS:
        begin(f"gaps with {budget} prompt tokens per step")
        found[budget] = gaps.measure_gaps(answer, model, budget, gaps.PROMPT, kernels)
    begin("plans")
    plans = {case: plan_time.measure_plan_time(answer, *case) for case in (plan_time.MANY, plan_time.FEW)}
    begin("peak memory")
    peak = peak_memory.peak_over_pool_and_weights(answer, model, kernels=kernels)
    begin("where the time of a step goes")
    parts = [
        paged_profile.step_parts(answer, model, prompt_tokens=tokens, tokens_before=before, kernels=kernels)
        for tokens, before in paged_profile.STEPS.values()
    ]
    building = build_time.paged_build_times(answer, model.config.num_layers)
    step_seconds = parts[0][paged_profile.PARTS[-1]]
    return Costs(found, plans, peak, step_seconds, parts, building)


def expected_seconds(times: StepTimes) -> float:
    """About what `measure_costs` takes."""
    steps = sum(gaps.QUIET + -(-gaps.PROMPT // budget) for budget in gaps.BUDGETS)
    prompts = len(gaps.BUDGETS) * (gaps.PROMPT + gaps.ROWS * gaps.FIRST)
    return steps * times.all_rows + prompts * times.prompt_token + 30
