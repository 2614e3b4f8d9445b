"""`pdm run waste`: the simulation behind it, on lists that can be played by hand, and what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import tiny_llm_ref
from tiny_llm_kit.bench.waste import Usage, play, rows
from tiny_llm_kit.cli.waste import main
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.lists import heavy_tail


def items(*lengths: tuple[int, int]) -> list[WorkItem]:
    return [WorkItem(tuple(range(prompt)), max_tokens) for prompt, max_tokens in lengths]


def moments(usage: Usage) -> list[tuple[int, int, int, int]]:
    return [(one.in_flight, one.waiting, one.held, one.reserved) for one in usage.moments]


def test_slots_are_blocks_as_long_as_the_longest() -> None:
    usage = play(tiny_llm_ref, items((2, 3), (3, 1), (1, 2)), tokens=10, block_size=5)
    # The last token of an answer is never stored, so the first request ends with 4 tokens.
    assert moments(usage) == [(2, 1, 5, 10), (2, 0, 4, 10), (2, 0, 6, 10)]
    assert usage.worst == 4, "the third request begins with 1 token in a slot of 5"
    assert usage.in_flight == 2
    assert usage.wasted == 0.5, "5 of 10, in the only step in which somebody waited"


def test_blocks_are_taken_when_they_are_needed() -> None:
    usage = play(tiny_llm_ref, items((2, 3), (3, 1), (1, 2)), tokens=10, block_size=2)
    assert moments(usage) == [(3, 0, 6, 8), (2, 0, 5, 6), (1, 0, 4, 4)]
    assert usage.worst == 1
    assert usage.crowded == usage.moments, "nobody ever waited: all steps count"


def test_the_youngest_begins_again_when_memory_is_full() -> None:
    usage = play(tiny_llm_ref, items((2, 5), (2, 5)), tokens=8, block_size=2)
    assert usage.preempted == 1
    # Both fill two blocks each; the first goes on alone, and the second comes back with the 4 tokens that it knew.
    assert moments(usage) == [
        (2, 0, 4, 4),
        (2, 0, 6, 8),
        (2, 0, 8, 8),
        (1, 1, 5, 6),
        (1, 1, 6, 6),
        (1, 0, 4, 4),
        (1, 0, 5, 6),
        (1, 0, 6, 6),
    ]


@pytest.mark.parametrize("block_size", [1, 8, 16, 32])
@pytest.mark.parametrize("seed", range(3))
def test_no_request_wastes_a_block(block_size: int, seed: int) -> None:
    work = heavy_tail(100, seed=seed, count=60)
    usage = play(tiny_llm_ref, work, tokens=4 * 456, block_size=block_size)
    assert usage.worst < block_size
    assert max(one.reserved for one in usage.moments) <= 4 * 456
    assert play(tiny_llm_ref, work, tokens=4 * 456, block_size=block_size) == usage, "the same list, the same figures"


def test_blocks_serve_twice_as_many_at_equal_memory() -> None:
    for seed in range(3):
        work = heavy_tail(100, seed=seed, count=100)
        longest = max(len(item.prompt) + item.max_tokens for item in work)
        slots, blocks = (play(tiny_llm_ref, work, 8 * longest, size) for size in (longest, 16))
        assert blocks.in_flight >= 2 * slots.in_flight


def test_memory_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="2 blocks of 4 tokens can't hold the longest request, 9 tokens"):
        play(tiny_llm_ref, items((5, 5)), tokens=10, block_size=4)


def test_rows_of_the_table() -> None:
    usages = [play(tiny_llm_ref, items((2, 3), (3, 1), (1, 2)), 10, size) for size in (5, 2)]
    assert rows(usages)[0] == ["slots", "10", "5", "50.0%", "4", "2.0", "1.00", "2", "0"]
    assert rows(usages)[1][0] == "blocks of 2"


def test_it_prints_and_writes(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--out", str(tmp_path), "--requests", "40", "--slots", "4", "--block-size", "16"])
    assert result.exit_code == 0, result.output
    assert "blocks of 16" in result.output
    (written,) = tmp_path.glob("*.json")
    document = json.loads(written.read_text())
    assert [usage["block_size"] for usage in document["usages"]][1:] == [16]
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.glob("*.md"))) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--requests", "8"], "8 requests never wait for 8 slots"),
        (["--max-seq-len", "100"], "--max-seq-len 100 is shorter than the longest request"),
        (["--workload", "chat"], "chat"),
        (["--block-size", "0"], "0"),
        (["--slots", "1", "--block-size", "400"], "can't hold the longest request"),
        (["--solution", "nobody"], "nobody"),
    ],
    ids=str,
)
def test_bad_input_is_one_message_and_exit_code_2(tmp_path: Path, options: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["--out", str(tmp_path), *options])
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir()), "nothing is written"
