"""`pdm run simulate`: the requests it is fed with, what it counts and does not keep, what it prints, writes and refuses."""

import json
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import tiny_llm_ref
from tiny_llm_kit.bench import simulation
from tiny_llm_kit.bench.fits import fit_as_json
from tiny_llm_kit.bench.simulation import Simulated
from tiny_llm_kit.bench.sketch import FIGURES, RELATIVE_ERROR, Histogram, RunSketch
from tiny_llm_kit.cli import simulate
from tiny_llm_kit.machine.published import published_machines
from tiny_llm_kit.models.load import load
from tiny_llm_kit.models.shapes import SHAPES, read_shape, shape
from tiny_llm_kit.timeline.files import read_trace
from tiny_llm_kit.workloads.azure_trace import AzureTrace
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.lists import heavy_tail
from tiny_llm_kit.workloads.paged import PagedSizes
from tiny_llm_kit.workloads.streams import AT_ONCE, arriving, endless, unlike

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
TRACE = HEADER + ("2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:46.9000000,9,1\n2023-11-16 18:15:47.6805901,396,109\n")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(simulate.main, list(arguments))


def document(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json", str(tmp_path / "figures.json"))
    assert result.exit_code == 0, result.output
    return json.loads((tmp_path / "figures.json").read_text())  # type: ignore[no-any-return]


def refused(*arguments: str) -> str:
    """What is said to bad input: one sentence, exit code 2."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


# Figures of what is not kept.


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_are_off_by_half_a_per_cent(seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(0, 3, 5000).tolist()
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    ordered = sorted(values)
    for percent in (0, 1, 25, 50, 95, 99, 100):
        exact = tiny_llm_ref.percentile(ordered, percent)
        assert histogram.percentile(percent) == pytest.approx(exact, rel=RELATIVE_ERROR * 1.0001)
    assert histogram.mean == pytest.approx(sum(values) / len(values), rel=1e-9)


def test_a_histogram_of_nothing_and_of_zeros() -> None:
    histogram = Histogram()
    assert (histogram.mean, histogram.percentile(50)) == (0, 0)
    for value in (0.0, 0.0, 0.0, 2.0):
        histogram.add(value)
    assert histogram.percentile(50) == 0
    assert histogram.percentile(100) == pytest.approx(2, rel=RELATIVE_ERROR)


def test_percentiles_of_a_few_values_lie_between_them() -> None:
    histogram = Histogram()
    for value in (3.0, 5.0):
        histogram.add(value)
    assert [histogram.percentile(percent) for percent in (0, 50, 95)] == pytest.approx([3, 4, 4.9], rel=RELATIVE_ERROR)


def test_a_histogram_stays_small() -> None:
    histogram = Histogram()
    for number in range(100_000):
        histogram.add(1e-6 * 1.0003**number)
    assert len(histogram._buckets) < 4000, "30 × 100,000 values over 13 powers of ten"


@pytest.mark.parametrize("engine", simulation.ENGINES)
def test_the_sketch_says_what_the_recorder_says(engine: str) -> None:
    items = list(arriving(tiny_llm_ref, heavy_tail(100, count=200), 50, 1.0, 3))
    cost = simulation.roofline(tiny_llm_ref, published_machines()["m1"], shape("llama-3.2-1b"), 2)
    slo = tiny_llm_ref.Slo(1.0, 0.06)
    sketch, recorder = RunSketch(tiny_llm_ref, slo), tiny_llm_ref.RunRecorder()

    def wanted(number: int, time: float) -> None:
        sketch.wanted(number, time)
        recorder.wanted(number, time)

    simulated = Simulated(engine, slots=8, max_wait=0.5 if engine == "dynamic" else 0)
    simulated.run(tiny_llm_ref, items, items, cost, readers=[sketch.read, recorder.read], wanted=wanted)
    exact, found = tiny_llm_ref.summarize(recorder, slo), sketch.summary()
    for name in ("requests", "finished", "goodput", "slot_utilization"):
        assert getattr(found, name) == getattr(exact, name), name
    for name in ("seconds", "tokens_per_second", "requests_per_second"):
        assert getattr(found, name) == pytest.approx(getattr(exact, name), rel=1e-9), name
    for name in FIGURES:
        spread, true = getattr(found, name), getattr(exact, name)
        assert spread.mean == pytest.approx(true.mean, rel=1e-9), name
        for percent in ("p50", "p95", "p99"):
            value = getattr(true, percent)
            assert getattr(spread, percent) == pytest.approx(value, rel=RELATIVE_ERROR * 1.0001, abs=1e-9), (name, percent)
    assert not sketch.recorder.requests, "who has ended is forgotten"


# Requests.


def test_a_stream_begins_with_the_list_of_its_seed() -> None:
    make = partial(heavy_tail, 100)
    assert (
        list(islice(endless(make, 7, 5), 12)) == [*make(seed=7, count=5), *make(seed=8, count=5), *make(seed=9, count=5)][:12]
    )


def test_prompts_that_are_only_long_share_no_beginning() -> None:
    assert [len(unlike(number, length)) for number, length in ((0, 1), (5, 300))] == [1, 300]
    assert unlike(1, 40)[:1] != unlike(2, 40)[:1]


@pytest.mark.parametrize("count", [1, AT_ONCE, 2 * AT_ONCE + 1])
def test_arrivals_go_on_from_one_batch_to_the_next(count: int) -> None:
    items = [WorkItem((1,), number + 1) for number in range(count)]
    arrived = list(arriving(tiny_llm_ref, iter(items), 4.0, 1.0, 11))
    assert [item.max_tokens for item in arrived] == [item.max_tokens for item in items]
    times = [item.arrival for item in arrived]
    assert times == sorted(times)
    assert times[:AT_ONCE] == tiny_llm_ref.arrival_times(min(count, AT_ONCE), 4.0, 1.0, seed=11)
    if count > AT_ONCE:
        assert 0.9 * count / 4 < times[-1] < 1.1 * count / 4, "a deviation of 2 % is what these arrivals have"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_trace(tmp_path: Path) -> None:
    items = list(AzureTrace(write(tmp_path, TRACE)))
    assert [(len(item.prompt), item.max_tokens) for item in items] == [(374, 44), (9, 1), (396, 109)]
    assert [item.arrival for item in items] == [0, pytest.approx(0.21941, abs=1e-12), pytest.approx(1.0000001, abs=1e-12)]
    assert len({item.prompt[0] for item in items}) == 3, "no two prompts begin alike"


@pytest.mark.parametrize(
    "text",
    [
        TRACE.replace("\n", "\r\n"),
        "\ufeff" + TRACE,
        TRACE.replace("00,", "00+00:00,").replace("01,", "01+00:00,"),
        TRACE + "\n\n",
        "\n".join(",".join(["x", *line.split(",")]) for line in TRACE.splitlines()),
    ],
    ids=["CRLF", "a mark at the beginning", "offsets", "blank lines", "another column"],
)
def test_a_trace_in_another_dress(tmp_path: Path, text: str) -> None:
    assert [item.max_tokens for item in AzureTrace(write(tmp_path, text))] == [44, 1, 109]


def test_answers_without_tokens_are_left_out_and_counted(tmp_path: Path) -> None:
    trace = AzureTrace(write(tmp_path, TRACE.replace(",9,1\n", ",9,0\n")))
    assert [item.max_tokens for item in trace] == [44, 109]
    assert trace.left_out == 1
    assert "1 lines were left out" in run("--trace-in", str(trace.path)).output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column TIMESTAMP"),
        ("TIMESTAMP,Context,GeneratedTokens\n", "no column ContextTokens"),
        (HEADER, "holds no request"),
        (TRACE + "2023-11-16 18:15:48,12\n", "line 5: 2 values"),
        (TRACE + "yesterday,12,3\n", "line 5: 'yesterday' is not a time"),
        (TRACE + "2023-11-16 18:15:48.,12,3\n", "line 5: '2023-11-16 18:15:48.' is not a time"),
        (TRACE + "2023-11-16 18:15:40.1,12,3\n", "line 5: 2023-11-16 18:15:40.1 is earlier"),
        (TRACE + "2023-11-16 18:15:48,0,3\n", "line 5: ContextTokens is '0'"),
        (TRACE + "2023-11-16 18:15:48,-4,3\n", "line 5: ContextTokens is '-4'"),
        (TRACE + "2023-11-16 18:15:48,4,3.5\n", "line 5: GeneratedTokens is '3.5'"),
        (TRACE + "2023-11-16 18:15:48,99999999999,3\n", "line 5: ContextTokens is '99999999999'"),
        (TRACE + f"2023-11-16 18:15:48,{'9' * 5000},3\n", "line 5: ContextTokens is '9999"),
        (TRACE + "x" * 200_000, "field larger than field limit"),
    ],
)
def test_bad_traces_are_refused_with_the_line(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused("--trace-in", str(write(tmp_path, text)))


def test_files_that_are_no_traces(tmp_path: Path) -> None:
    assert "cannot read" in refused("--trace-in", str(tmp_path / "nowhere.csv"))
    assert "cannot read" in refused("--trace-in", str(tmp_path))
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in refused("--trace-in", str(tmp_path / "binary.csv"))


def test_a_trace_is_read_line_by_line(tmp_path: Path) -> None:
    path = write(tmp_path, TRACE + "nonsense\n")
    assert [item.max_tokens for item in islice(AzureTrace(path), 3)] == [44, 1, 109], "nobody asked for the bad line"


# Models and costs.


def test_the_first_shape_is_the_embedded_model() -> None:
    embedded, ours = load(keep_quantized=True).config, shape(SHAPES[0])
    for name in ("hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim", "intermediate_size", "vocab_size"):
        assert getattr(embedded, name) == getattr(ours, name), name
    assert embedded.tie_word_embeddings == ours.tie_word_embeddings


@pytest.mark.parametrize(
    ("name", "billions"),
    list(zip(SHAPES, (0.134, 1.236, 8.03, 70.55, 7.62, 8.19), strict=True)),
)
def test_shapes_have_as_many_weights_as_their_models(name: str, billions: float) -> None:
    """With the embeddings; 0.5 % is more than all norms and biases are."""
    config = shape(name)
    cost = tiny_llm_ref.roofline_of(config, 1.0, 1.0, 2.0, 2.0)
    embeddings = 0 if config.tie_word_embeddings else cost.output_weights
    assert (cost.weights + cost.output_weights + embeddings) / 1e9 == pytest.approx(billions, rel=0.005)


def test_a_config_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    settings = shape("llama-3-8b").to_hugging_face() | {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}
    path.write_text(json.dumps(settings))
    assert read_shape(path).hidden_size == 4096, "how positions are turned changes no size"
    ours = document(tmp_path, "--requests", "20", "--config", str(path))
    theirs = document(tmp_path, "--requests", "20", "--model", "llama-3-8b")
    assert ours["summary"] == theirs["summary"]


@pytest.mark.parametrize(
    ("text", "said"), [("{", "can be read"), ("[]", "can be read"), ('{"model_type": "llama"}', "no 'num_att")]
)
def test_bad_configs_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert said in refused("--config", str(tmp_path / "config.json"))
    assert "cannot read" in refused("--config", str(tmp_path / "nowhere.json"))


def test_a_fit_of_predict(tmp_path: Path) -> None:
    fit = tiny_llm_ref.FittedCost((0.01, 0.001, 0.001, 0.001, 0.0, 0.0, 0.0), (8, 32), 0.1, True)
    (tmp_path / "fit.json").write_text(json.dumps({"fit": fit_as_json(fit)}))
    found = document(tmp_path, "--fit", str(tmp_path / "fit.json"), "--requests", "1", "--slots", "1", "--prefill-step", "512")
    (item,) = heavy_tail(shape(SHAPES[0]).vocab_size, seed=0, count=1)
    prompt, decode = 0.01 + 0.001 * len(item.prompt), 0.011
    assert found["summary"]["latency"]["mean"] == pytest.approx(prompt + (item.max_tokens - 1) * decode)
    assert found["cost"]["fit"] == str(tmp_path / "fit.json")


# The program.


@pytest.mark.parametrize("engine", simulation.ENGINES)
def test_every_engine(engine: str, tmp_path: Path) -> None:
    found = document(tmp_path, "--engine", engine, "--requests", "60")
    assert found["engine"]["engine"] == engine
    assert found["summary"]["requests"] == found["summary"]["finished"] == 60
    assert found["summary"]["goodput"] is None
    assert found["summary"]["inter_token"] is None, "nobody knows, which is not 0"
    assert found["steps"] > 60


def test_schedules_differ_as_they_should(tmp_path: Path) -> None:
    speed = {
        engine: document(tmp_path, "--engine", engine, "--requests", "200", *slots)["summary"]["tokens_per_second"]
        for engine, slots in {"sequential": (), **dict.fromkeys(("static", "slots", "paged"), ("--slots", "8"))}.items()
    }
    assert speed["sequential"] < speed["static"] < speed["slots"] < speed["paged"], speed


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    arguments = ("--requests", "100", "--rate", "400", "--burstiness", "0.5")
    first, again, other = (document(tmp_path, *arguments, "--seed", seed)["summary"] for seed in ("1", "1", "2"))
    assert first == again
    assert first != other


def test_a_machine_that_reads_faster_is_faster(tmp_path: Path) -> None:
    speed = [
        document(tmp_path, "--preset", name, "--requests", "50")["summary"]["tokens_per_second"] for name in ("m1", "h200")
    ]
    assert speed[1] > 10 * speed[0]
    halved = document(tmp_path, "--preset", "m1", "--requests", "50", "--bytes-per-weight", "0.5")["summary"]
    assert halved["tokens_per_second"] > 1.5 * speed[0]


def test_goodput(tmp_path: Path) -> None:
    arguments = ("--requests", "100", "--rate", "200", "--preset", "m1")
    loose = document(tmp_path, *arguments, "--slo-ttft", "1000", "--slo-tpot", "1000")["summary"]
    assert loose["goodput"] == pytest.approx(loose["requests_per_second"])
    strict = document(tmp_path, *arguments, "--slo-ttft", "0.05")["summary"]
    assert 0 < strict["goodput"] < loose["goodput"]
    assert "Infinity" not in (tmp_path / "figures.json").read_text(), "that is no JSON"
    assert document(tmp_path, *arguments, "--slo-tpot", "1e-9")["summary"]["goodput"] == 0


def test_a_trace_keeps_its_times_unless_there_is_a_rate(tmp_path: Path) -> None:
    path = str(write(tmp_path, TRACE))
    own = document(tmp_path, "--trace-in", path)["summary"]
    assert own["requests"] == 3
    assert own["seconds"] > 1
    assert document(tmp_path, "--trace-in", path, "--requests", "2")["summary"]["requests"] == 2
    assert document(tmp_path, "--trace-in", path, "--rate", "1000000")["summary"]["seconds"] < 1


def test_what_is_printed(tmp_path: Path) -> None:
    output = run("--requests", "40", "--engine", "paged", "--num-blocks", "40", "--slo-ttft", "1").output
    for part in ("tokens per second", "TTFT", "TPOT", "queue time", "p99", "goodput", "preemptions", "steps per second"):
        assert part in output, part


def test_a_timeline(tmp_path: Path) -> None:
    assert run("--requests", "10", "--slots", "3", "--trace", str(tmp_path / "run.json")).exit_code == 0
    (timeline,) = read_trace(tmp_path / "run.json")
    assert len(timeline.lives) == 10
    assert (tmp_path / "run.html").exists()


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, float, int]] = []
    monkeypatch.setattr(simulate, "_show", lambda bar, started, *progress: told.append(progress))
    assert run("--requests", "1500", "--slots", "2").exit_code == 0
    finished, seconds, steps = map(list, zip(*told, strict=True))
    assert steps == list(range(0, 4096 * len(steps), 4096))
    assert len(steps) > 3
    assert finished == sorted(finished)
    assert 0 < finished[-1] <= 1500
    assert seconds == sorted(seconds)


def test_chat_prompts_come_again_and_again(tmp_path: Path) -> None:
    found = document(tmp_path, "--workload", "chat", "--requests", "150", "--rate", "100")
    assert found["summary"]["finished"] == 150


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--burstiness", "2"), "--burstiness is about the gaps"),
        (("--requests", "1000000"), "let them come at a --rate"),
        (("--workload", "chat", "--trace-in", "x.csv"), "give one of them"),
        (("--model", "llama-3-8b", "--config", "x.json"), "give one of them"),
        (("--fit", "x.json", "--preset", "h100"), "--preset means nothing to --fit"),
        (("--fit", "nowhere.json"), "cannot read"),
        (("--max-wait", "1"), "--max-wait means nothing to --engine slots"),
        (("--engine", "static", "--strategy", "fifo"), "--strategy means nothing to --engine static"),
        (("--strategy", "lifo"), "there is no strategy 'lifo'"),
        (("--num-blocks", "10"), "--num-blocks means nothing to --engine slots"),
        (("--engine", "paged", "--prefill-step", "10"), "--prefill-step means nothing to --engine paged"),
        (("--engine", "paged", "--max-num-seqs", "300"), "give at least 300"),
        (("--engine", "paged", "--num-blocks", "3"), "num_blocks"),
        (("--slots", "0"), "0 is not in the range"),
        (("--slots", "9" * 30), "is not in the range"),
        (("--engine", "sequential", "--slots", "4"), "--slots means nothing to --engine sequential"),
        (("--engine", "paged", "--slots", "1000000", "--block-size", "1"), "are too many to simulate"),
        (("--engine", "paged", "--num-blocks", "9" * 30), "nothing larger than 10,000,000"),
        (("--engine", "paged", "--block-size", "9" * 30), "nothing larger than 10,000,000"),
        (("--engine", "dynamic", "--max-wait", "inf"), "inf is not in the range"),
        (("--slo-ttft", "nan"), "nan is not a finite number"),
        (("--trace", "results/a.json", "--json", "results/a.json"), "are the same file, 'results/a.json'"),
        (("--trace", "results/a.json", "--json", "results/a.html"), "are the same file, 'results/a.html'"),
        (("--trace-in", "results/a.csv", "--trace", "results/../results/a.csv"), "are the same file"),
        (("--trace", "/dev/null"), "not an ordinary file"),
        (("--rate", "0"), "0"),
        (("--solution", "nobody"), "nobody"),
    ],
)
def test_what_means_nothing_is_refused(arguments: Sequence[str], said: str) -> None:
    assert said in refused(*arguments)


@pytest.mark.parametrize(("limit", "most", "said"), [("MOST_WAITING", 200, "200"), ("MOST_TOKENS_WAITING", 20_000, "")])
def test_a_queue_that_grows_for_ever_ends_the_run(limit: str, most: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, limit, most)
    output = refused("--rate", "1e6", "--requests", "2000", "--slots", "2")
    assert f"{said} requests wait" in output
    assert "Lower --rate" in output
    assert run("--rate", "100", "--requests", "400").exit_code == 0, "these come one by one, and hardly anybody waits"


def test_the_paged_engine_has_the_memory_of_the_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(tiny_llm_ref, "simulate_paged", lambda items, cost, **options: given.update(options))
    items = [WorkItem(tuple(range(30)), 18), WorkItem((1,), 2)]
    Simulated("paged", slots=5, sizes=PagedSizes(block_size=8)).run(tiny_llm_ref, items, items, None)
    assert given["num_blocks"] == 5 * 48 // 8
    Simulated("paged", slots=5, sizes=PagedSizes(num_blocks=77)).run(tiny_llm_ref, items, items, None)
    assert given["num_blocks"] == 77
