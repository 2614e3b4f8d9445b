"""`pdm run load-test`: what it makes of streams as clients saw them, what it says of them; with locust, one short run."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from kit.tiny_models import save_folder
from tiny_llm_kit.bench import served_report
from tiny_llm_kit.bench.served_load import Answer, Outcome, Sample, Seen, Stage, bodies, is_clear, read_record, read_records
from tiny_llm_kit.bench.served_process import read_metrics
from tiny_llm_kit.cli import load_test
from tiny_llm_kit.course.course_map import find_root
from tiny_llm_kit.models.tiny_random import tiny_config
from tiny_llm_ref.server.metrics import ServerMetrics
from tiny_llm_ref.server.snapshot import EngineSnapshot

ALONE = [Answer("One two", 2, "length"), Answer("Three", 1, "stop")]
WITHOUT_LOCUST = importlib.util.find_spec("locust") is None
needs_locust = pytest.mark.skipif(WITHOUT_LOCUST, reason="locust is not installed: pdm run setup-load")


def piece(text: str, finish_reason: str | None = None) -> str:
    return "data: " + json.dumps({"choices": [{"index": 0, "text": text, "finish_reason": finish_reason}]})


def usage(tokens: int) -> str:
    return "data: " + json.dumps({"choices": [], "usage": {"completion_tokens": tokens}})


DONE = "data: [DONE]"
WHOLE = [piece("One"), piece(" two"), piece("", "length"), usage(2), DONE]


def seen(lines: list[str], status: int = 200, error: str | None = None, item: int = 0, sent: float = 10.0) -> Seen:
    """A request whose events came a tenth of a second after each other."""
    timed = [[sent + 0.1 * (place + 1), line] for place, line in enumerate(lines)]
    ended = sent + 0.1 * len(lines)
    return read_record({"item": item, "sent": sent, "ended": ended, "status": status, "lines": timed, "error": error})


def test_a_stream_is_put_together() -> None:
    one = seen(WHOLE)
    assert (one.answer, one.complete, one.error) == (ALONE[0], True, None)
    assert one.first == pytest.approx(10.1)
    assert one.outcome(ALONE) is Outcome.EQUAL
    late = seen([piece(""), *WHOLE])
    assert late.first == pytest.approx(10.2), "an event without text is no token for a reader"


@pytest.mark.parametrize(
    "lines",
    [
        [piece("One"), piece("", "length"), usage(1), DONE],
        [piece("One"), piece("One"), piece(" two"), piece("", "length"), usage(3), DONE],
        [piece("One"), piece(" two"), piece("", "length"), usage(3), DONE],
        [piece("One"), piece(" two"), piece("", "stop"), usage(2), DONE],
        [piece(" two"), piece("One"), piece("", "length"), usage(2), DONE],
    ],
    ids=["lost", "doubled", "counted wrongly", "another end", "another order"],
)
def test_other_tokens_are_noticed(lines: list[str]) -> None:
    assert seen(lines).outcome(ALONE) is Outcome.DIFFERENT


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (WHOLE[:-1], None),
        ([], None),
        ([piece("One"), 'data: {"error": {"message": "the engine died"}}'], None),
        ([*WHOLE[:-1], 'data: {"error": {"message": "the engine died"}}', DONE], None),
        ([*WHOLE, piece("more")], None),
        ([piece("One"), "data: {cut", DONE], None),
        (WHOLE, "ConnectionError()"),
    ],
    ids=["no end", "nothing", "an error", "an error and an end", "more after the end", "no JSON", "broken off"],
)
def test_broken_streams_are_noticed(lines: list[str], error: str | None) -> None:
    assert seen(lines, error=error).outcome(ALONE) is Outcome.BROKEN


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(429, Outcome.REFUSED), (503, Outcome.REFUSED), (500, Outcome.OTHER), (504, Outcome.OTHER), (400, Outcome.OTHER)],
)
def test_statuses(status: int, outcome: Outcome) -> None:
    assert seen(['{"error": {"message": "no"}}'], status).outcome(ALONE) is outcome


def test_a_connection_that_never_came_is_broken() -> None:
    assert seen([], 0, "ConnectionRefusedError()").outcome(ALONE) is Outcome.BROKEN


def test_another_items_answer_is_not_right() -> None:
    assert seen(WHOLE, item=1).outcome(ALONE) is Outcome.DIFFERENT


def test_records() -> None:
    record = {"item": 1, "sent": 7.0, "ended": 7.5, "status": 429, "lines": [], "error": None}
    began, found = read_records("\n".join(map(json.dumps, [{"began": 6.5}, record, record])))
    assert (began, len(found), found[0].status) == (6.5, 2, 429)
    with pytest.raises(ValueError, match="locust"):
        read_records("")


def test_near_ties_are_not_clear() -> None:
    assert is_clear([{"a": -0.1, "b": -2.0}, {"c": -0.5}])
    assert is_clear([])
    assert not is_clear([{"a": -0.1, "b": -2.0}, {"c": -0.70001, "d": -0.7, "e": -3.0}])


def test_the_list_is_the_same_each_time_and_of_different_requests() -> None:
    first, again, other = bodies(40, 1, "m"), bodies(40, 1, "m"), bodies(40, 2, "m")
    assert first == again
    assert first != other
    assert len({body["prompt"] for body in first}) > 30
    assert len({body["max_tokens"] for body in first}) > 5
    assert {body["temperature"] for body in first} == {0}
    assert {body["model"] for body in first} == {"m"}


def test_metrics_are_those_of_the_server() -> None:
    """Names and format of the reference's own `/metrics`."""
    state = EngineSnapshot(num_requests_running=3, num_requests_waiting=5, kv_used=7, kv_total=28)
    assert read_metrics(ServerMetrics("m", lambda: state).text().decode()) == (5, 3, 0.25)


EMPTY = Sample(time=40.0, rss=1000, waiting=0, running=0, kv_used=0.0)


def stage(**changes: Any) -> Stage:
    """10 s after 2 s of warm-up, begun at 10: one request in the warm-up, two answered, two refused later."""
    requests = [
        seen(WHOLE, sent=11.0),
        seen(WHOLE, sent=13.0),
        seen([piece("Three"), piece("", "stop"), usage(1), DONE], item=1, sent=14.0),
        seen([], 429, sent=15.0),
        seen([], 503, sent=16.0),
    ]
    samples = [Sample(10.0 + second, 1000 + second, second, 8, 0.5) for second in range(13)]
    made = Stage("2 ×", 3.0, 10.0, 2.0, 10.0, requests, [], samples, len(requests), EMPTY, True)
    made = replace(made, **changes)
    return replace(made, outcomes=[one.outcome(ALONE) for one in made.seen])


def failures(*stages: Stage, max_queue: int = 12, saturated: bool = True, exit_code: int = 0) -> list[str]:
    return [goal.name for goal in served_report.targets(stages, max_queue, saturated, exit_code) if not goal.met]


def test_figures_leave_the_warm_up_out() -> None:
    found = served_report.stage_as_json(stage())
    assert (found["requests"], found["requests_with_warm_up"]) == (4, 5)
    assert found["statuses"] == {"200": 2, "429": 1, "503": 1}
    assert found["answers_per_second"] == pytest.approx(0.2)
    assert found["tokens_per_second"] == pytest.approx(0.3)
    assert found["ttft_p50_seconds"] == pytest.approx(0.1)
    assert found["latency_p50_seconds"] == pytest.approx(0.45)
    assert found["most_waiting"] == 12
    assert (found["rss_bytes_after_warm_up"], found["rss_bytes_at_the_end"]) == (1002.5, 1011.5)


def test_a_good_run_misses_nothing() -> None:
    assert failures(stage(offered=None), stage()) == []


def sent(*more: Seen) -> list[Seen]:
    return [*stage().seen, *more]


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"seen": sent(seen([], 500, sent=11.0))}, "statuses other than"),
        ({"seen": sent(seen(WHOLE[:2], sent=11.0))}, "broken streams"),
        ({"seen": sent(seen(WHOLE, item=1, sent=11.0))}, "tokens differ"),
        ({"seen": sent()[:3]}, "429 at the highest rate"),
        ({"samples": [Sample(15.0, 1000, 13, 8, 0.5)]}, "that waited"),
        ({"samples": [Sample(12.0 + second, 1000 + 10 * second, 1, 8, 0.5) for second in range(11)]}, "growth of RSS"),
        ({"left": replace(EMPTY, running=1)}, "requests left"),
        ({"left": replace(EMPTY, kv_used=0.1)}, "blocks or slots"),
        ({"healthy": False}, "/health"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_fault_misses_its_target(changes: dict[str, Any], missed: str) -> None:
    """Those of the warm-up, too: the first four are sent before the measured time."""
    assert [name for name in failures(stage(**changes)) if missed not in name] == []
    assert len(failures(stage(**changes))) == 1


def test_growth_counts_over_all_rates_too() -> None:
    """Two rates in which memory hardly grows, and a leap between them."""
    leap = [Sample(12.0 + second, 1100, 1, 8, 0.5) for second in range(11)]
    assert failures(stage(), stage(samples=leap)) == ["growth of RSS after the warm-up, in a rate or over all"]


@pytest.mark.parametrize("exit_code", [1, -9])
def test_a_bad_end_of_the_server_misses_its_target(exit_code: int) -> None:
    assert failures(stage(), exit_code=exit_code) == ["exit code after SIGTERM"]


def test_faults_are_told_but_not_thousands_of_them() -> None:
    assert served_report.faults([stage()]) == []
    told = served_report.faults([stage(seen=[seen(WHOLE[:1], sent=13.0)] * 1000)])
    assert "broken" in told[0]
    assert "One" in told[0]
    assert "995 more" in told[-1]
    assert len(told) == 6


def test_without_locust_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "locust" else find_spec(name))
    result = CliRunner().invoke(load_test.main, [])
    assert result.exit_code == 1
    assert "pdm run setup-load" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("arguments", [["--rates", "0"], ["--rates", "a"], ["--seconds", "0"], ["--max-queue", "0"]])
def test_refuses(arguments: list[str]) -> None:
    assert CliRunner().invoke(load_test.main, arguments).exit_code == 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tmp_path_factory.mktemp("load_test"), tiny_config())


SHORT = ["--rates", "4", "--seconds", "3", "--warm-up", "1", "--burst", "2", "--requests", "12", "--max-queue", "4"]


@needs_locust
@pytest.mark.parametrize("engine", ["paged", "slots"])
def test_a_short_run(engine: str, model: Path, tmp_path: Path) -> None:
    """A real server, and the real locust. Of the targets those that a few seconds can't tell are left alone."""
    result = CliRunner().invoke(load_test.main, [*SHORT, "--engine", engine, "--model", str(model), "--out", str(tmp_path)])
    assert "Written:" in result.output, result.output
    (written,) = tmp_path.glob("load-test-*.json")
    document = json.loads(written.read_text())
    missed = [target for target in document["targets"] if not target["met"] and "RSS" not in target["name"]]
    assert not missed, result.output
    assert document["machine"]
    closed, opened = document["stages"]
    assert closed["offered_per_second"] is None
    assert opened["offered_per_second"] == pytest.approx(4 * document["sustainable_per_second"])
    assert opened["statuses"]["200"] > 3
    assert opened["requests_counted_by_locust"] == opened["requests_with_warm_up"]


@needs_locust
def test_ctrl_c_stops_everything(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(find_root() / "scripts/load_test.py"), "--model", str(model), "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(find_root() / "src")}
    process = subprocess.Popen([*command, "--burst", "60"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 40
        children: list[psutil.Process] = []
        while not any("locust" in " ".join(child.cmdline()) for child in children):
            assert time.monotonic() < end, "locust should have been started"
            assert process.poll() is None, "it should not have ended by itself"
            time.sleep(0.2)
            children = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[0].decode()
        assert process.returncode == 130, said
        assert "Traceback" not in said
        assert not psutil.wait_procs(children, timeout=5)[1], "the server and locust should have ended"
    finally:
        process.kill()
        process.wait()
