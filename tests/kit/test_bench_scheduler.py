"""`pdm run bench-scheduler`: it times the answer's own schedulers, over sizes, and holds them against what they promise."""

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import tiny_llm_ref
from tiny_llm_kit.bench import decision_report, decisions
from tiny_llm_kit.bench.decisions import Decision, PagedDecisions, Requests, slot_decision
from tiny_llm_kit.cli import bench_scheduler

SIZES = ["--waiting", "10,40", "--running", "2,4", "--users", "1,3"]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(bench_scheduler.main, list(arguments))


def test_a_table_a_json_file_and_a_chart(tmp_path: Path) -> None:
    result = run(*SIZES, "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    document = json.loads(next(tmp_path.glob("*.json")).read_text())
    cases = [(one["strategy"], one["users"], one["running"], one["waiting"]) for one in document["microseconds"]]
    who = [("fifo", 0), ("shortest-remaining", 0), ("length-balance", 0), ("fair", 1), ("fair", 3)]
    assert sorted(cases) == sorted((s, u, running, waiting) for s, u in who for running in (2, 4) for waiting in (10, 40))
    for one in document["microseconds"]:
        assert min(one["full"], one["plan"], one["queue"]) > 0
        assert one["step"] == pytest.approx(one["plan"] + one["queue"])
    assert len(document["targets"]) == len(who)
    markdown = next(tmp_path.glob("*.md")).read_text()
    assert all(part in markdown for part in ("slots, shortest-remaining", "paged, 3 users", "| 40 |", "wanted"))
    assert next(tmp_path.glob("*.png")).read_bytes().startswith(b"\x89PNG")


def test_quick_leaves_out_what_takes_long(tmp_path: Path) -> None:
    sizes = ["--waiting", "10,1000000", "--running", "2,1024", "--users", "1"]
    assert run("--quick", *sizes, "--out", str(tmp_path)).exit_code == 0
    document = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert {(one["running"], one["waiting"]) for one in document["microseconds"]} == {(2, 10)}
    assert document["targets"] == [], "one size says nothing about growth"
    assert "wanted" not in next(tmp_path.glob("*.md")).read_text(), "nor is there an empty table of targets"


@pytest.mark.parametrize("strategy", list(tiny_llm_ref.STRATEGIES))
def test_a_step_of_the_slot_engine_admits_one_of_those_who_wait(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed must be a choice among everyone, time and again, not among the few that an earlier step left."""
    seen = []
    plan_step = tiny_llm_ref.plan_step

    def watch(waiting: Any, running: Any, slots: int, *rest: Any) -> Any:
        plan = plan_step(waiting, running, slots, *rest)
        assert all((chunk.start, chunk.end) == (0, len(chunk.request.prompt)) for chunk in plan.prefill), "as if it were new"
        seen.append((len(waiting), slots - len(running), [chunk.request for chunk in plan.prefill], len(plan.decode)))
        return plan

    monkeypatch.setattr(tiny_llm_ref, "plan_step", watch)
    made = Requests(tiny_llm_ref, 24)
    decision = slot_decision(tiny_llm_ref, made, strategy, running=4, waiting=20)
    full = [step for step in seen if step[1] == 0]
    assert full
    assert all(step == (20, 0, [], 4) for step in full), "while no seat is free everyone who runs decodes"
    choices = [step for step in seen if step[1] == 1]
    assert len(choices) == decision.steps > 0
    assert all((waiting, len(chosen), decode) == (20, 1, 3) for waiting, _, chosen, decode in choices)
    assert all(chosen[0].overtaken < tiny_llm_ref.Strategy.max_overtakes for _, _, chosen, _ in choices), "nobody starves"


def test_a_step_of_the_paged_engine_admits_one_of_those_who_wait() -> None:
    paged = PagedDecisions(tiny_llm_ref, Requests(tiny_llm_ref, 30), waiting=30, users=3, most_running=8)
    for running in (2, 8):
        before = paged.engine.metrics.total_requests
        decision = paged.measure(running)
        assert (decision.running, decision.waiting, decision.users) == (running, 30, 3)
        assert len(paged.engine.running) == running
        assert len(paged.engine.waiting) == 30
        assert paged.engine.metrics.total_requests - before >= decision.steps, "each step admitted somebody, and another came"
        paged.engine.check_integrity()
    users = {request.user for request in paged.engine.waiting.values()}
    assert len(users) == 3


def test_requests_serve_again_as_if_they_were_new() -> None:
    made = Requests(tiny_llm_ref, 12)
    PagedDecisions(tiny_llm_ref, made, waiting=10, users=2, most_running=2).measure(2)
    slot_decision(tiny_llm_ref, made, "shortest-remaining", running=2, waiting=10)
    fresh = made.fresh(12, users=5)
    assert len({request.request_id for request in fresh}) == 12
    assert {request.user for request in fresh} == {f"user {number}" for number in range(5)}
    assert all(request.state == "waiting" and request.arrival is None and not request.overtaken for request in fresh)
    lengths = {len(request.prompt) for request in made.fresh(12)}
    assert len(lengths) > 3, "a ranking by length needs lengths to choose from"


def times(engine: str, step: Callable[[int], float], users: int = 0, running: int = 8) -> Iterator[Decision]:
    for waiting in (100, 1000, 10_000, 100_000, 1_000_000):
        half = step(waiting) / 2
        yield Decision(engine, "some", users, running, waiting, full=1, plan=half, queue=half, steps=5)


@pytest.mark.parametrize(
    ("step", "value", "met"),
    [(lambda n: 5, 0.0, True), (lambda n: 3 + n / 100, 1.0, True), (lambda n: n**1.5, 1.5, False)],
    ids=["constant", "proportional", "more"],
)
def test_a_strategy_may_look_at_everyone_once(step: Callable[[int], float], value: float, met: bool) -> None:
    (goal,) = decision_report.targets(list(times("slots", step)))
    assert goal.value == pytest.approx(value, abs=0.02)
    assert goal.met is met


@pytest.mark.parametrize(
    ("step", "met"),
    [(lambda n: 10.0, True), (lambda n: 2.0 * len(str(n)), True), (lambda n: 10 + n / 10_000, False)],
    ids=["constant", "logarithm", "proportional"],
)
def test_the_fair_queue_may_grow_as_the_logarithm_does(step: Callable[[int], float], met: bool) -> None:
    steady = times("paged", lambda n: 5.0, users=10, running=64)
    (goal,) = decision_report.targets([*times("paged", step, users=10), *steady])
    assert goal.limit == pytest.approx(3)
    assert goal.met is met, "the worst of those who run counts"


def test_many_run_though_hardly_anybody_waits() -> None:
    """Those who came first must not have had their whole answers before the last ones run."""
    paged = PagedDecisions(tiny_llm_ref, Requests(tiny_llm_ref, 2), waiting=1, users=1, most_running=700)
    assert paged.measure(700).running == len(paged.engine.running) == 700
    assert len(paged.engine.waiting) in (1, 2)


def test_users_are_named() -> None:
    found = [next(times("paged", lambda n: 1.0, users=users)) for users in (1, 10, 100)]
    assert [decision_report.label(one) for one in found] == ["paged, 1 user", "paged, 10 users", "paged, each their own user"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--waiting", "0"], "0 is too few"),
        (["--waiting", "10,x"], "not a list of numbers"),
        (["--running", "5000"], "5000 is too many: it must be at most 4,096"),
        (["--waiting", "1000000000000"], "are free: give fewer with --waiting and --running"),
        (["--quick", "--running", "1000"], "--quick leaves nothing"),
        (["--solution", "nobody"], "nobody"),
        (["--out", "pyproject.toml"], "is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_message_and_exit_code_2(arguments: list[str], message: str) -> None:
    result = run(*SIZES, *arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_a_stub_is_named() -> None:
    result = run(*SIZES, "--solution", "tiny_llm")
    assert result.exit_code == 2, result.output
    assert "This program needs that task" in result.output


def test_the_collector_rests_while_requests_are_made_and_no_longer() -> None:
    with decisions.no_collector():
        assert not gc.isenabled()
    assert gc.isenabled(), "it is on again for whoever comes next"
