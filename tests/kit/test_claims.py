"""`pdm run claims`: the law beside what is counted, simulated and measured, the ledger, and what the program refuses."""

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from click.testing import CliRunner

import tiny_llm_ref
from tiny_llm_kit.bench.law import law_rows
from tiny_llm_kit.bench.law_measured import figures_of_bench, measured_row
from tiny_llm_kit.bench.ledger import Claim, Comparison, read_ledger
from tiny_llm_kit.bench.over_seeds import Spread, over_seeds
from tiny_llm_kit.bench.predicted import predict
from tiny_llm_kit.bench.schedules import Schedule, UnitCost, highest_rate, plain_items, predicted_gain
from tiny_llm_kit.cli.claims import main
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config
from tiny_llm_kit.workloads.lengths import CHAT, DISTRIBUTIONS, distribution, drawn, equal

LEDGER = read_ledger()


def find_claim(words: str) -> Claim:
    return next(claim for claim in LEDGER.claims if words in claim.name)


def find_limit(name: str) -> Comparison:
    return next(one for one in LEDGER.limits if one.name == name)


# Lengths


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions_differ_in_shape_and_not_in_mean(name: str) -> None:
    lengths = drawn(DISTRIBUTIONS[name], seed=0, count=20_000)
    assert fmean(lengths) == pytest.approx(44, rel=0.03)
    assert min(lengths) >= 1
    assert lengths == drawn(DISTRIBUTIONS[name], seed=0, count=20_000), "the same seed, the same lengths"


def test_unknown_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="'normal'"):
        distribution("normal", mean=3)
    with pytest.raises(ValueError, match="median"):
        distribution("uniform", median=3)


# Schedules


def test_the_worked_example_is_two_thirds_full_in_static_mode() -> None:
    items = plain_items([1, 1, 1], [4, 12, 8])
    outcome = Schedule("static", 3).simulate(tiny_llm_ref, items, UnitCost(), 128)
    assert (outcome.seconds, outcome.tokens) == (12, 24)
    assert outcome.utilization == pytest.approx(24 / 36)


@pytest.mark.parametrize(("kind", "seconds"), [("sequential", 24), ("static", 20), ("leaving", 20), ("continuous", 12)])
def test_every_step_of_a_schedule_takes_a_second_of_unit_cost(kind: str, seconds: float) -> None:
    items = plain_items([1] * 3, [4, 12, 8])
    outcome = Schedule(kind, 1 if kind == "sequential" else 2).simulate(tiny_llm_ref, items, UnitCost(), 128)
    assert (outcome.seconds, outcome.tokens) == (seconds, 24)


def test_latency_is_per_token_and_from_the_arrival() -> None:
    items = [replace(item, arrival=arrival) for item, arrival in zip(plain_items([1, 1], [4, 8]), (0.0, 2.5), strict=True)]
    outcome = Schedule("sequential", 1).simulate(tiny_llm_ref, items, UnitCost(), 128)
    assert outcome.per_token == pytest.approx([4 / 4, (12 - 2.5) / 8])


def test_prompts_share_the_calls_of_the_paged_engine() -> None:
    items = plain_items([8] * 64, drawn(CHAT, 0, 64))
    roofline = LEDGER.machine.roofline(tiny_llm_ref)
    slots, paged = (Schedule(kind, 8).simulate(tiny_llm_ref, items, roofline, 512) for kind in ("continuous", "paged"))
    assert paged.tokens == slots.tokens
    assert paged.seconds < slots.seconds


@pytest.mark.parametrize(
    ("theirs", "ours", "want"),
    [
        (Schedule("sequential", 1), Schedule("continuous", 8), 8),
        (Schedule("static", 3), Schedule("continuous", 3), 4 / 3),
        (Schedule("static", 3), Schedule("paged", 6), 8 / 3),
        (Schedule("continuous", 7), Schedule("continuous", 28), 4),
    ],
    ids=str,
)
def test_the_law_of_two_schedules(theirs: Schedule, ours: Schedule, want: float) -> None:
    assert predicted_gain(tiny_llm_ref, [4, 12, 8], theirs, ours) == pytest.approx(want)


def test_schedules_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="'eager'"):
        Schedule("eager", 2)
    with pytest.raises(ValueError, match="0 rows"):
        Schedule("static", 0)


def test_the_highest_rate_is_found_to_a_thousandth() -> None:
    assert highest_rate(lambda rate: rate**2, most=10, limit=9) == pytest.approx(3, abs=0.01)


# The law


def test_counted_and_simulated_steps_are_the_same() -> None:
    rows = law_rows(tiny_llm_ref, [2, 8], range(2), 16, LEDGER.machine, 512, lambda: None)
    assert [(row.distribution, row.rows) for row in rows] == [(name, size) for name in DISTRIBUTIONS for size in (2, 8)]
    for row in rows:
        assert row.simulated == pytest.approx(row.counted), f"{row.distribution}, {row.rows} rows"
        assert row.counted.least <= row.counted.mean <= row.counted.most


def test_over_long_lists_the_law_is_what_is_counted() -> None:
    rows = law_rows(tiny_llm_ref, [4], range(2), 128, LEDGER.machine, 512, lambda: None)
    for row in rows:
        assert row.counted.mean == pytest.approx(row.law, rel=0.06), row.distribution
        assert row.timed.mean <= row.counted.mean + 0.01, "prompts take their time in both, which brings the two closer"


def test_real_engines_take_the_steps_that_are_counted() -> None:
    config = tiny_config(num_layers=1)
    model = tiny_llm_ref.Model(config, random_weights(config), tiny_llm_ref.OPERATORS["arrays"])
    ran: list[str] = []
    row = measured_row(tiny_llm_ref, model, 4, range(1), 2, 512, ran.append)
    assert row.steps.mean == pytest.approx(row.counted.mean, rel=0.1), "prompts and the end take a few steps more"
    lengths = drawn(CHAT, 0, 8)
    full = sum(lengths) / (4 * tiny_llm_ref.static_steps(lengths, 4))
    assert row.static_utilization.mean == pytest.approx(full)
    assert ran == ["sequential", "static", "continuous"]
    assert row.figures()["sequential", "continuous", 4] == row.sequential


# The ledger


@pytest.mark.parametrize(
    "name",
    ["2–4 × over static", "5–15 ×", "40–60 %", "80–95 %", "24 ×", "23 ×", "36.9 ×", "2–4 × over FasterTransformer and Orca"],
)
def test_the_ledger_has_the_claims_that_circulate(name: str) -> None:
    assert find_claim(name).comparisons


@pytest.mark.parametrize("claim", LEDGER.claims, ids=lambda claim: claim.name)
def test_a_claim_says_where_it_is_from_and_whether_that_was_read(claim: Claim) -> None:
    assert claim.source
    assert claim.checked.startswith(("read", "from memory, not verified"))
    assert claim.low <= claim.high
    assert claim.needs.endswith("."), "the verdict is a sentence"
    assert (claim.figure == "utilization") == all(one.theirs is None for one in claim.comparisons)


@pytest.mark.parametrize(
    ("value", "said"), [(1.0, "50% of 2.0"), (2.0, "within"), (3.0, "within"), (4.0, "within"), (4.5, "above")]
)
def test_the_verdict_holds_a_figure_against_the_claim(value: float, said: str) -> None:
    assert find_claim("2–4 × over static").verdict(value) == said


def test_a_claim_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    from tiny_llm_kit.bench import ledger

    text = ledger.CLAIMS.read_text(encoding="utf-8")
    for right, wrong in (('kind = "static", rows = 4', 'kind = "statik", rows = 4'), ('claimed = "2–4 ×"\n', "")):
        path = tmp_path / "claims.toml"
        path.write_text(text.replace(right, wrong), encoding="utf-8")
        with pytest.raises(ValueError, match="2–4 × over static batching"):
            read_ledger(path)


def predicted_mean(comparison: Comparison, rounds: int = 32, seeds: int = 2) -> tuple[float | None, float]:
    found = predict(tiny_llm_ref, comparison, range(seeds), rounds, 512)
    return found.law, found.simulated.mean


def test_the_law_holds_where_it_should() -> None:
    law, simulated = predicted_mean(find_limit("the law holds"), rounds=64)
    assert law is not None
    assert simulated == pytest.approx(law, rel=0.08)


def test_the_law_fails_where_it_should() -> None:
    for name, low, high in (
        ("equal lengths", 0.97, 1.01),
        ("low load", 0.97, 1.1),
        ("rows leave, past the knee", 1.0, 1.6),
        ("over sequential, past the knee", 3.0, 4.5),
    ):
        assert low < predicted_mean(find_limit(name), rounds=16, seeds=1)[1] < high, name


def test_slots_are_as_full_as_the_load_is_high() -> None:
    half = replace(find_claim("80–95 %").comparisons[0], load=0.5)
    law, simulated = predicted_mean(half)
    assert law == pytest.approx(0.5)
    assert simulated == pytest.approx(0.5, abs=0.1)


def test_within_a_latency_the_law_says_nothing() -> None:
    comparison = next(one for one in find_claim("36.9 ×").comparisons if one.within_latency == 1.5)
    law, simulated = predicted_mean(comparison, rounds=1, seeds=1)
    assert law is None
    assert simulated > 4, "static batches make those wait who come while one runs"


def test_over_seeds() -> None:
    assert over_seeds([1.0, 2.0, 6.0]) == Spread(3, 1, 6)
    assert str(over_seeds([1.0, 2.0, 6.0])) == "3.00 (1.00 … 6.00)"
    assert str(over_seeds([2.0, 2.0])) == "2.00", "no spread where there is none"


# What bench has measured


def bench_result(
    engine: str, slots: int, speed: float | None, workload: str = "heavy-tail", used: float = 0.5
) -> dict[str, object]:
    runs = [{"utilization": used, "noisy": False}, {"utilization": 0.1, "noisy": True}]
    return {"workload": workload, "engine": engine, "slots": slots, "tokens_per_second": speed, "runs": runs}


def test_figures_of_bench(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    results = [
        bench_result("sequential", 1, 10),
        bench_result("static", 8, 20),
        bench_result("continuous", 8, 50, used=0.9),
        bench_result("continuous", 4, 30),
        bench_result("static", 4, None),
        bench_result("continuous", 8, 20, "heavy-tail, seed 1"),
        bench_result("sequential", 1, 10, "heavy-tail, seed 1"),
        bench_result("continuous", 8, 1000, "prefill-heavy"),
    ]
    path.write_text(json.dumps({"results": results}))
    figures = figures_of_bench(path)
    assert figures["static", "continuous", 8] == Spread(2.5, 2.5, 2.5)
    assert figures["sequential", "continuous", 8] == Spread(3.5, 2, 5), "over both lists"
    assert figures["sequential", "continuous", 4].mean == 3
    assert ("static", "continuous", 4) not in figures, "it had no quiet run"
    assert figures[None, "static", 8].mean == 0.5, "of quiet runs"


@pytest.mark.parametrize("content", ["no JSON", "[1]", '{"targets": []}', '{"results": [{"engine": "static"}]}'])
def test_files_that_bench_did_not_write_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"other\.json"):
        figures_of_bench(path)


# The program

QUICK = ["--seeds", "1", "--rounds", "1", "--batch-sizes", "2,4"]


def test_it_prints_and_writes(tmp_path: Path) -> None:
    bench = tmp_path / "bench.json"
    bench.write_text(json.dumps({"results": [bench_result("static", 8, 20), bench_result("continuous", 8, 44)]}))
    out = tmp_path / "out"
    options = [*QUICK, "--measure", "tiny", "--measured-batch-sizes", "2", "--measured-seeds", "1", "--bench", str(bench)]
    result = CliRunner().invoke(main, [*options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    (written,) = out.glob("*.json")
    document = json.loads(written.read_text(encoding="utf-8"))
    assert [(row["distribution"], row["rows"]) for row in document["law"]][:2] == [("log-normal", 2), ("log-normal", 4)]
    assert [row["rows"] for row in document["measured"]] == [2]
    assert [one["name"] for one in document["limits"]] == [one.name for one in LEDGER.limits]
    first = document["ledger"][0]
    assert [one["measured"] and one["measured"]["mean"] for one in first["comparisons"]] == [None, 2.2, None, None]
    assert all(one["simulated"]["least"] <= one["simulated"]["most"] for one in first["comparisons"])
    (table,) = out.glob("*.md")
    text = table.read_text(encoding="utf-8")
    for claim in LEDGER.claims:
        assert claim.words in " ".join(result.output.split())
        assert all(words in text for words in (claim.name, claim.source, claim.checked, claim.needs))
    assert len(list(out.glob("*.png"))) == 1


def test_lengths_that_are_equal_are_not_measured() -> None:
    assert all(one.filed_under is None for claim in LEDGER.claims for one in claim.comparisons if "equal" in one.name)
    assert replace(find_limit("the law holds"), lengths=equal(3)).filed_under is None


def test_a_bench_without_the_engines_that_count_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text('{"results": []}')
    with pytest.raises(ValueError, match=r"bench\.json' holds no quiet run of heavy-tail"):
        figures_of_bench(tmp_path / "bench.json")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--bench", "nowhere.json"], "cannot read 'nowhere.json'"),
        (["--batch-sizes", "0,2"], "0 is"),
        (["--batch-sizes", "99999"], "99999 is too many"),
        (["--batch-sizes", "two"], "'two' is not a list of numbers"),
        (["--seeds", "0"], "--seeds"),
        (["--rounds", "0"], "--rounds"),
        (["--measure", "llama"], "llama"),
        (["--solution", "nobody"], "nobody"),
        (["--solution", "tiny_llm", *QUICK], "This program needs that task"),
    ],
    ids=str,
)
def test_bad_input_is_one_message_and_exit_code_2(tmp_path: Path, options: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["--out", str(tmp_path), *options])
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir()), "nothing is written"
