"""`pdm run bench-serve` on a tiny model: its tables, its targets, what it refuses, and what it leaves behind."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner
from click.testing import Result as ClickResult

import tiny_llm_ref
from tiny_llm_kit.bench import serve_report, server_cost
from tiny_llm_kit.bench.engines import RequestFailed
from tiny_llm_kit.bench.live_server import LoopProbe
from tiny_llm_kit.bench.serve_report import CostResult
from tiny_llm_kit.bench.server_cost import GENERATE, SERVER, Answer, CostRun, Streams, Watch
from tiny_llm_kit.bench.stream_client import Failed, read_events
from tiny_llm_kit.cli import bench_serve
from tiny_llm_kit.machine.description import LoadMeter
from tiny_llm_kit.models.load import LoadedModel
from tiny_llm_kit.models.tiny_random import ByteTokenizer, random_weights, tiny_config

TINY = LoadedModel("tiny", tiny_config(), random_weights(tiny_config()), ByteTokenizer())


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., ClickResult]:
    """The program on a tiny model, on a machine that is quiet."""
    monkeypatch.setattr(bench_serve, "load", lambda *_, **__: TINY)
    fixed = ["--noise", "1", "--repeats", "1", "--requests", "4", "--out", str(tmp_path)]
    return lambda *arguments: CliRunner().invoke(bench_serve.main, [*fixed, *arguments])


def left_behind() -> list[str]:
    """Clients and threads of a server that are still there."""
    clients = [child for child in psutil.Process().children() if "stream_client.py" in " ".join(child.cmdline())]
    threads = [thread.name for thread in threading.enumerate() if thread.name in ("server", "engine")]
    return [*map(str, clients), *threads]


def test_one_command_prints_and_writes_all_tables(program: Callable[..., ClickResult], tmp_path: Path) -> None:
    result = program()
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    announced = next(i for i, line in enumerate(lines) if "this will take" in line)
    assert announced < next(i for i, line in enumerate(lines) if "tokens/s  (" in line), "said before the first run"
    document = json.loads(next(tmp_path.glob("*.json")).read_text())
    generate, server = document["results"]
    assert (generate["way"], server["way"]) == (GENERATE, SERVER)
    assert generate["tokens"] == server["tokens"] > 40, "with ignore_eos, an answer is as long as it was asked to be"
    assert generate["delays"] is None
    assert generate["cpu_share_of_client"] == 0
    for name, figures in server["delays"].items():
        assert 0 < figures["p50_seconds"] <= figures["p99_seconds"] <= figures["most_seconds"] < 10, name
    goals = {goal["name"]: goal for goal in document["targets"]}
    assert goals["answers equal to generate's"]["met"]
    assert len(goals) == 5
    assert all(goal["met"] is not None for goal in goals.values())
    markdown = next(tmp_path.glob("*.md")).read_text()
    assert all(part in markdown for part in ("| generate |", "| server |", "first byte", "wanted"))
    assert not left_behind()


def test_a_server_that_refuses_is_no_measurement(
    program: Callable[..., ClickResult], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(_: Any) -> None:
        raise tiny_llm_ref.EngineDead("it is over")

    monkeypatch.setattr(tiny_llm_ref.EngineThread, "check_open", refuse)
    result = program()
    assert result.exit_code == 1, result.output
    assert "the server answered with 503" in result.output
    assert "it is over" in result.output
    assert not list(tmp_path.iterdir())
    assert not left_behind()


def test_ctrl_c_leaves_nothing_behind(program: Callable[..., ClickResult], monkeypatch: pytest.MonkeyPatch) -> None:
    talk = server_cost._talk

    def interrupted(client: Any, line: str) -> Any:
        if line == "go":
            raise KeyboardInterrupt
        return talk(client, line)

    monkeypatch.setattr(server_cost, "_talk", interrupted)
    result = program()
    assert result.exit_code == 130, result.output
    assert "Interrupted." in result.output
    assert not left_behind()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--requests", "0"], "0 is not in the range"),
        (["--requests", "257"], "257 is not in the range"),
        (["--repeats", "0"], "0 is not in the range"),
        (["--slots", "100000000"], "would fit"),
        (["--num-blocks", "2"], "num_blocks is 2"),
        (["--max-num-seqs", "300"], "max_num_batched_tokens is 192"),
        (["--seed", "-1"], "-1 is not in the range"),
        (["--solution", "nobody"], "nobody"),
        (["--out", "pyproject.toml"], "is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_message_and_exit_code_2(
    program: Callable[..., ClickResult], arguments: list[str], message: str
) -> None:
    result = program(*arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def run_of(
    way: str, speed: float, streams: Streams | None = None, answers: tuple[Answer, ...] = (([1, 2], "ab"),), noisy: bool = False
) -> CostRun:
    meter = LoadMeter()
    meter.wall, meter.own_cpu, meter.helper_cpu, meter.other_cpu, meter.steal = 1.0, 0.5, 0.01, 0.0, 0.0
    return CostRun(way, list(answers), 2 / speed, [0.1, 0.2, 0.3], meter, noisy, streams)


def goals_of(*runs: CostRun) -> dict[str, Any]:
    return {goal.name: goal for goal in serve_report.targets(CostResult(runs))}


def test_targets_never_guess() -> None:
    streams = Streams(lags=[0.001] * 98 + [0.08] * 2, firsts=[0.1, 0.1, 0.1, 0.3], pieces=[0.1])
    goals = goals_of(run_of(GENERATE, 10), run_of(SERVER, 9.6, streams))
    assert goals["tokens/s, server / generate"].value == pytest.approx(0.96)
    assert goals["tokens/s, server / generate"].met
    assert goals["lag of the event loop, p99"].met is False
    assert goals["first byte of a stream after its token, p50"].value == pytest.approx(0.5), "in median steps, of 0.2 s"
    assert goals["first byte of a stream after its token, p99"].met is False
    assert goals["answers equal to generate's"].met

    assert goals_of(run_of(GENERATE, 10), run_of(SERVER, 9.4, streams))["tokens/s, server / generate"].met is False
    noisy = goals_of(run_of(GENERATE, 10), run_of(SERVER, 20, streams, noisy=True))
    assert {goal.met for goal in noisy.values()} == {None, True}, "only the answers are known"
    assert {goal.met for goal in goals_of(run_of(GENERATE, 10)).values()} == {None}


@pytest.mark.parametrize("answer", [([1, 3], "ab"), ([1, 2], "ax"), ([1], "ab")])
def test_an_answer_is_equal_if_its_tokens_and_the_clients_text_are(answer: Answer) -> None:
    goal = goals_of(run_of(GENERATE, 10), run_of(SERVER, 10), run_of(SERVER, 10, answers=(answer,)))[
        "answers equal to generate's"
    ]
    assert goal.met is False, "one run with a wrong answer is enough"


def test_a_text_is_late_from_the_end_of_the_step_that_brought_its_last_letter() -> None:
    watch = Watch(engine=None, kinds=tiny_llm_ref.EventKind)
    watch.letters[7] += [(0, 1.0), (2, 2.0), (2, 3.0), (3, 4.0), (6, 5.0)]
    assert watch.delays(7, ["ab", "c", "def"], [2.5, 4.25, 5.0]) == [0.5, 0.25, 0.0]
    assert watch.delays(7, ["a", "bc"], [2.5, 4.5]) == [0.5, 0.5], "pieces need not be those of the steps"
    with pytest.raises(RequestFailed, match="7 letters"):
        watch.delays(7, ["abcdefg"], [6.0])


def event(text: str) -> bytes:
    chunk = {"id": "cmpl-3-x", "choices": [{"index": 0, "text": text, "finish_reason": None}]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


def test_the_client_reads_events_wherever_they_are_cut() -> None:
    stream = event("Hé") + event("") + event("llo") + b"data: [DONE]\n\n"
    cut = len(event("Hé")) + 5
    answer = read_events([(1.0, stream[:9]), (2.0, stream[9:cut]), (3.0, stream[cut:])])
    assert answer == {"id": "cmpl-3-x", "texts": ["Hé", "llo"], "times": [2.0, 3.0], "ended": 3.0}


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (event("half"), "without .DONE."),
        (b"", "without .DONE."),
        (event("half") + b'data: {"error": {"message": "the engine has died"}}\n\n', "the engine has died"),
    ],
    ids=["cut off", "empty", "error"],
)
def test_the_client_takes_no_half_of_an_answer_for_one(stream: bytes, message: str) -> None:
    with pytest.raises(Failed, match=message):
        read_events([(1.0, stream)] if stream else [])


def test_the_probe_sees_a_loop_that_is_kept_from_its_work() -> None:
    probe = LoopProbe()

    async def blocked() -> None:
        probe.start()
        await asyncio.sleep(0.03)
        time.sleep(0.1)  # which is what nobody should do here
        await asyncio.sleep(0.03)

    asyncio.run(blocked())
    assert max(probe.lags) > 0.05
    assert min(probe.lags) < 0.05
