"""`pdm run bench-replicas`: the same requests for every router, tables, a JSON file, and what it refuses."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import tiny_llm_ref
from tiny_llm_kit.bench import autoscaling, replicas
from tiny_llm_kit.bench.replicas import BASELINE, PREFIX_AWARE, Routed
from tiny_llm_kit.cli import bench_replicas
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.tenants import tenants

SMALL = ["--requests", "120", "--tenants", "16", "--seeds", "2", "--replicas", "3", "--num-blocks", "150"]
NAMES = [BASELINE, "two choices", "least tokens", "consistent hash", PREFIX_AWARE]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(bench_replicas.main, [*SMALL, *arguments])


def test_a_table_targets_and_a_json_file(tmp_path: Path) -> None:
    result = run("--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "Simulated" in result.output
    document = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert [(one["router"], one["seed"]) for one in document["routers"]] == [(name, seed) for seed in (1, 2) for name in NAMES]
    for one in document["routers"]:
        assert one["computed"] > 0
        assert 0 <= one["hit_rate"] < 1 <= one["imbalance"] <= 3
        assert 0 < one["ttft_p50"] <= one["ttft_p95"] < one["seconds"]
        assert one["router"] != BASELINE or one["relative"] == 1
    assert len(document["targets"]) == 3
    assert document["requests"]["rate"] > 0
    assert document["engine"]["num_blocks"] == 150
    text = next(tmp_path.glob("*.md")).read_text()
    assert all(name in text for name in [*NAMES, "wanted", "÷ round robin"])


def test_the_rate_that_is_given_counts_and_the_same_seed_is_the_same_run(tmp_path: Path) -> None:
    found = []
    for folder in ("one", "two"):
        assert run("--rate", "20", "--seeds", "1", "--out", str(tmp_path / folder)).exit_code == 0
        found.append(json.loads(next((tmp_path / folder).glob("*.json")).read_text()))
    assert found[0]["routers"] == found[1]["routers"]
    assert found[0]["requests"]["rate"] == 20
    assert 0.5 < found[0]["routers"][0]["seconds"] / (120 / 20) < 2, "120 requests at 20 a second take about 6 seconds"


def test_all_routers_are_given_the_same_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def simulate(items: Any, router: Any, replicas: int, cost: Any, sizes: Any) -> Any:
        given.append((type(router).__name__, tuple(items), replicas, sizes))
        report = tiny_llm_ref.ReplicaReport("replica 0", computed_tokens=100 * len(given))
        report.recorder.requests[0] = tiny_llm_ref.RequestTimes(0.0, tokens=[1.0])
        return tiny_llm_ref.FleetReport([report], 1.0)

    monkeypatch.setattr(tiny_llm_ref, "simulate_replicas", simulate)
    lists = {seed: tenants(1000, 4, 10, seed) for seed in (1, 2)}
    told: list[tuple[str, int]] = []
    sizes = tiny_llm_ref.EngineSizes(100)
    found = replicas.compare(tiny_llm_ref, lists, 3, None, sizes, lambda *done: told.append(done))
    assert [len({one[1:] for one in given[at : at + 5]}) for at in (0, 5)] == [1, 1], "per list, all get the same"
    assert given[0][1] != given[5][1]
    assert told == [(name, seed) for seed in lists for name in NAMES]
    assert [one.relative for one in found] == pytest.approx([1, 2, 3, 4, 5, 1, 7 / 6, 8 / 6, 9 / 6, 10 / 6])


def test_a_number_of_replicas_that_follows_a_wave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaling, "PARTS", ((1.0, 0.5), (1.0, 3.0), (1.0, 0.5)))
    result = run("--autoscale", "--seeds", "1", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "requests in a wave: 1 s at 0.5 ×, 1 s at 3 ×" in " ".join(result.output.split())
    found = json.loads(next(tmp_path.glob("*.json")).read_text())["autoscaling"]
    assert [(one["fleet"], one["most"]) for one in found] == [("always 1", 1), ("always 3", 3), ("1 to 3", found[2]["most"])]
    assert found[0]["ttft_p95"] > found[1]["ttft_p95"] > 0
    assert "always 3" in next(tmp_path.glob("*.md")).read_text()


def test_a_wave_has_its_parts() -> None:
    items = [WorkItem((1,), 1)] * autoscaling.wave_size(10)
    wave = autoscaling.wave(tiny_llm_ref, items, 10, seed=1)
    assert len(wave) == 800
    times = [item.arrival for item in wave]
    assert times == sorted(times)
    seconds = [sum(start <= time < start + 20 for time in times) for start in (0, 20, 40)]
    assert seconds == pytest.approx([100, 600, 100], rel=0.3)


@pytest.mark.parametrize("capacity", [0.01, 1e6])
def test_a_wave_that_makes_no_sense(capacity: float) -> None:
    with pytest.raises(ValueError, match="leave --autoscale out"):
        autoscaling.wave_size(capacity)


def test_a_number_that_follows_costs_less_than_the_most() -> None:
    """Three parts of 20 seconds on a machine that takes a tenth of a second per launch."""

    class Tenth:
        launch_waits = False

        def seconds(self, calls: Any) -> float:
            return 0.1 * bool(calls)

    sizes = tiny_llm_ref.EngineSizes(60, max_num_seqs=4, max_num_batched_tokens=64)
    items = [WorkItem((1, 2, 3), 10)] * autoscaling.wave_size(4)
    wave = autoscaling.wave(tiny_llm_ref, items, 4, seed=1)
    one, all_of_them, scaled = autoscaling.compare(tiny_llm_ref, wave, 4, Tenth(), sizes, lambda _: None)
    assert one.replica_seconds < scaled.replica_seconds < all_of_them.replica_seconds
    assert one.ttft_p95 > scaled.ttft_p95 > all_of_them.ttft_p95
    assert (one.most, scaled.most, all_of_them.most) == (1, 4, 4)
    assert [row[0] for row in autoscaling.rows([one, all_of_them, scaled])] == ["always 1", "always 4", "1 to 4"]


def routed(router: str, seed: int, **figures: float) -> Routed:
    usual: dict[str, Any] = {"computed": 1000, "relative": 1.0, "hit_rate": 0.5, "imbalance": 1.1}
    return Routed(router, seed, **usual | {"ttft_p50": 0.25, "ttft_p95": 1.5, "seconds": 9.0} | figures)


def test_rows_are_means_over_lists() -> None:
    found = [routed(PREFIX_AWARE, 1, hit_rate=0.2), routed(PREFIX_AWARE, 2, hit_rate=0.4, imbalance=1.3), routed(BASELINE, 1)]
    rows = replicas.rows(found)
    assert [row[0] for row in rows] == [PREFIX_AWARE, BASELINE]
    assert rows[0] == [PREFIX_AWARE, "1,000", "1.00", "30%", "1.20 (1.10 … 1.30)", "250 ms", "1.50 s"]


@pytest.mark.parametrize(
    ("relative", "imbalance", "met"), [((0.5, 0.6), (1.2, 1.4), (True, True)), ((0.6, 0.8), (1.1, 1.6), (False, False))]
)
def test_targets(relative: tuple[float, float], imbalance: tuple[float, float], met: tuple[bool, bool]) -> None:
    found = [
        routed(PREFIX_AWARE, seed, relative=r, imbalance=i) for seed, r, i in zip((1, 2), relative, imbalance, strict=True)
    ]
    goals = replicas.targets([*found, routed(BASELINE, 1, imbalance=9.0)], [0.9, 1.1])
    assert [goal.met for goal in goals] == [*met, True]


def test_each_replica_owns_about_its_part_of_the_keys() -> None:
    moved = replicas.moved_keys(tiny_llm_ref, 5)
    assert len(moved) == 5
    assert sum(moved) / 5 == pytest.approx(1), "every key moves once in five removals"
    assert all(0.6 < one < 1.4 for one in moved)


def test_requests_of_tenants_begin_alike() -> None:
    items = tenants(1000, 5, 200, seed=3)
    assert items == tenants(1000, 5, 200, seed=3)
    assert items != tenants(1000, 5, 200, seed=4)
    beginnings: dict[str, set[tuple[int, ...]]] = {}
    for item in items:
        beginnings.setdefault(item.title, set()).add(item.prompt[:400])
        assert 420 <= len(item.prompt) <= 460
        assert item.max_tokens == 32
    assert all(len(own) == 1 for own in beginnings.values()), "a tenant has one system prompt"
    assert len(set.union(*beginnings.values())) == len(beginnings) == 5, "and nobody else has it"
    sizes = Counter(item.title for item in items)
    assert 60 < sizes["tenant 0"] < 115, "the first of five sends 1 in 2.28, by Zipf's law"
    assert sizes["tenant 0"] > sizes["tenant 1"] > sizes["tenant 4"]
    assert len({item.prompt for item in items}) == 200


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0)])
def test_no_tenants_or_no_requests(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        tenants(1000, *sizes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--replicas", "1"], "1 is not in the range"),
        (["--rate", "0"], "0"),
        (["--num-blocks", "10"], "give at least"),
        (["--max-num-batched-tokens", "3"], "give at least"),
        (["--fit", "nowhere.json"], "nowhere.json"),
        (["--fit", "pyproject.toml", "--model", "llama-3-8b"], "--model means nothing to --fit"),
        (["--solution", "nobody"], "nobody"),
        (["--out", "pyproject.toml"], "is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_message_and_exit_code_2(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_a_stub_is_named(tmp_path: Path) -> None:
    result = run("--solution", "tiny_llm", "--out", str(tmp_path))
    assert result.exit_code == 2, result.output
    assert "This program needs that task" in result.output
