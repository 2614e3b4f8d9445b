"""Task 6: the least that a call can take, from its bytes and operations."""

from dataclasses import replace
from typing import Any

import pytest

from answer import answer
from support import refuses
from tiny_llm_kit.models.tiny_random import tiny_config

# Heads that are together wider than the model, and fewer heads of keys: every factor is another number.
CONFIG = tiny_config(hidden_size=8, num_layers=3, num_heads=6, num_kv_heads=2, head_dim=4, intermediate_size=10, vocab_size=100)
ATTENTION = 8 * 24 + 8 * 8 + 8 * 8 + 24 * 8
MLP = 8 * 10 + 8 * 10 + 10 * 8
WEIGHTS = 3 * (ATTENTION + MLP)
OUTPUT = 8 * 100

MACHINE = {"flops": 1e9, "bandwidth": 1e8, "bytes_per_weight": 2.0, "kv_bytes_per_number": 2.0}


def roofline(**changes: Any) -> Any:
    """Figures that are easy to reckon with, and in which reading and computing take nothing unless a test gives them a time."""
    figures = {
        "flops": 1e30,
        "bandwidth": 1e30,
        "weights": 1000,
        "output_weights": 200,
        "bytes_per_weight": 2.0,
        "kv_bytes": 50.0,
        "attention_flops": 30.0,
    }
    return answer.Roofline(**(figures | changes))


def test_task_6_roofline_the_weights_of_a_model() -> None:
    found = answer.roofline_of(CONFIG, **MACHINE)
    assert found.weights == WEIGHTS, (
        f"{found.weights} weights, by hand {WEIGHTS}: per layer, queries, keys, values and what puts heads together, and the"
        " three matrices of the MLP. Norms and the table of embeddings multiply no token"
    )
    assert found.output_weights == OUTPUT, "the output's table has a row for each token of the vocabulary"


def test_task_6_roofline_a_tied_table_is_the_output_s() -> None:
    tied, untied = (answer.roofline_of(replace(CONFIG, tie_word_embeddings=tie), **MACHINE) for tie in (True, False))
    assert tied == untied, (
        "whether the table of the embeddings is also the output's changes how many weights there are, and not what a call"
        " reads: one table for the logits, and a row of the other per token"
    )


@pytest.mark.parametrize("kv_heads", [2, 6])
def test_task_6_roofline_the_bytes_of_keys_and_values(kv_heads: int) -> None:
    found = answer.roofline_of(replace(CONFIG, num_kv_heads=kv_heads), **MACHINE | {"kv_bytes_per_number": 1.5})
    expected = 3 * 2 * kv_heads * 4 * 1.5
    assert found.kv_bytes == expected, (
        f"{found.kv_bytes} bytes per token, by hand {expected}: layers × (a key and a value) × heads of keys × their numbers ×"
        " bytes. Heads of queries that share a head of keys share its bytes"
    )


def test_task_6_roofline_the_operations_of_a_pair() -> None:
    found = answer.roofline_of(CONFIG, **MACHINE)
    expected = 3 * 6 * (2 * 4 + 2 * 4)
    assert found.attention_flops == expected, (
        f"{found.attention_flops} operations per pair, by hand {expected}: layers × heads of queries × (a product with the key"
        " and one with the value, of 2 operations per number). Sharing keys saves bytes and no operations"
    )


def test_task_6_roofline_what_the_machine_gives_is_kept() -> None:
    found = answer.roofline_of(CONFIG, **MACHINE, overhead=0.25)
    kept = (found.flops, found.bandwidth, found.bytes_per_weight, found.overhead)
    assert kept == (1e9, 1e8, 2.0, 0.25), f"flops, bandwidth, bytes per weight and overhead came out as {kept}"
    assert answer.roofline_of(CONFIG, **MACHINE).overhead == 0, "without a word about it a call has no overhead"


@pytest.mark.parametrize("name", list(MACHINE))
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_task_6_roofline_figures_that_make_no_sense_are_refused(name: str, value: float) -> None:
    answer.roofline_of(CONFIG, **MACHINE)
    with refuses(ValueError, f"{name}={value} should be refused: time would be infinite, or run backwards"):
        answer.roofline_of(CONFIG, **MACHINE | {name: value})


def test_task_6_roofline_a_negative_overhead_is_refused() -> None:
    answer.roofline_of(CONFIG, **MACHINE, overhead=0.0)
    with refuses(ValueError, "an overhead below 0 should be refused"):
        answer.roofline_of(CONFIG, **MACHINE, overhead=-0.1)


def test_task_6_roofline_reading() -> None:
    seconds = roofline(bandwidth=100.0).seconds([answer.Call(tokens=3, outputs=2, context=40, pairs=90)])
    expected = (2 * (1000 + 200) + 40 * 50) / 100
    assert seconds == pytest.approx(expected), (
        f"{seconds} s to read, by hand {expected}: every weight once, however many tokens there are, and the keys and values of"
        " the context"
    )


def test_task_6_roofline_weights_of_half_a_byte() -> None:
    changes = {"bytes_per_weight": 0.5, "kv_bytes_per_number": 0.5, "bandwidth": 0.5}
    seconds = answer.roofline_of(CONFIG, **MACHINE | changes).seconds([answer.Call(tokens=3, outputs=2, context=40, pairs=90)])
    expected = (WEIGHTS + OUTPUT + 40 * 2 * 3 * 8) * 0.5 / 0.5
    assert seconds == pytest.approx(expected), f"{seconds} s to read half a byte per number, by hand {expected}"


def test_task_6_roofline_computing() -> None:
    seconds = roofline(flops=100.0).seconds([answer.Call(tokens=3, outputs=2, context=40, pairs=90)])
    expected = (2 * 3 * 1000 + 2 * 2 * 200 + 90 * 30) / 100
    assert seconds == pytest.approx(expected), (
        f"{seconds} s to compute, by hand {expected}: 2 operations per weight and token; the output's table for the outputs"
        " only; and attention by pairs"
    )


def test_task_6_roofline_large_numbers() -> None:
    """A prompt of 131,072 tokens in one call of a model of 8 billion weights: some 10^16 operations."""
    size, weights = 131_072, 7_500_000_000
    machine = roofline(flops=1e15, weights=weights, output_weights=500_000_000, attention_flops=500_000.0)
    seconds = machine.seconds([answer.Call(tokens=size, outputs=1, context=size, pairs=size * size)])
    expected = (2 * size * weights + 2 * 500_000_000 + size * size * 500_000) / 1e15
    assert seconds == pytest.approx(expected), (
        f"{seconds} s to compute, by hand {expected}: do the numbers fit where they are kept?"
    )


def test_task_6_roofline_without_outputs_the_table_is_not_touched() -> None:
    call = answer.Call(tokens=3, outputs=0, context=0, pairs=0)
    read, computed = roofline(bandwidth=100.0).seconds([call]), roofline(flops=100.0).seconds([call])
    assert read == pytest.approx(2 * 1000 / 100), (
        "a chunk in the middle of a prompt wants no logits: the output's table stays unread"
    )
    assert computed == pytest.approx(2 * 3 * 1000 / 100), "no output, no product with the output's table"


def test_task_6_roofline_the_slower_of_the_two_decides() -> None:
    call = answer.Call(tokens=10, outputs=0, context=0, pairs=0)
    # Reading takes 20 s with the first machine and 2 s with the second, computing 4 s and 20 s.
    slow_memory, slow_units = roofline(bandwidth=100.0, flops=5e3), roofline(bandwidth=1e3, flops=1e3)
    assert slow_memory.seconds([call]) == pytest.approx(20), (
        "reading takes longer than computing here, and goes on at the same time"
    )
    assert slow_units.seconds([call]) == pytest.approx(20), (
        "computing takes longer than reading here, and goes on at the same time"
    )


def test_task_6_roofline_each_call_has_its_own_limit() -> None:
    machine = roofline(bandwidth=100.0, flops=1e3, overhead=0.5)
    chunk = answer.Call(tokens=20, outputs=0, context=0, pairs=0)  # 20 s to read, 40 s to compute
    decode = answer.Call(tokens=1, outputs=1, context=0, pairs=0)  # 24 s to read, 2.4 s to compute
    seconds = machine.seconds([chunk, decode])
    assert seconds == pytest.approx(0.5 + 40 + 0.5 + 24), (
        f"{seconds} s: one call after the other, each with its overhead, and each as slow as the slower of reading and"
        " computing; what one of them leaves of the bandwidth is of no use to the other"
    )
    assert machine.seconds([]) == 0, "no call, no time"


def test_task_6_roofline_the_knee() -> None:
    machine = roofline(flops=6e3, bandwidth=100.0)
    assert machine.knee == pytest.approx(60), (
        f"the knee is {machine.knee}, by hand 60: reading a weight takes 2 bytes / 100 B/s = 20 ms, and computing with it 2 /"
        " 6000 = 1/3 ms per row"
    )
    quantized = roofline(flops=6e3, bandwidth=100.0, bytes_per_weight=0.5)
    assert quantized.knee == pytest.approx(15), "weights of a quarter of the bytes are read in a quarter of the time"
    assert roofline(flops=6e3, bandwidth=400.0, bytes_per_weight=0.5).knee == pytest.approx(3.75), (
        "between 3 and 4 rows: the knee is a place on an axis, and not a whole number of rows"
    )


def test_task_6_roofline_below_the_knee_a_row_costs_nothing_and_above_it_all_it_computes() -> None:
    machine = roofline(flops=6e3, bandwidth=100.0, kv_bytes=0.0, attention_flops=0.0)

    def step(rows: float) -> float:
        return machine.seconds([answer.Call(int(rows), int(rows), 0, 0)])

    assert step(1) == pytest.approx(step(machine.knee)), (
        "up to the knee a step takes as long as one row, which reads the weights"
    )
    assert step(2 * machine.knee) == pytest.approx(2 * step(machine.knee)), "beyond the knee twice the rows take twice the time"
