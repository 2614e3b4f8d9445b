"""`pdm run compare-routers`, as far as it goes without Ray and vllm-router."""

import asyncio
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner

import tiny_llm_ref as ref
from kit.live_server import live_server
from kit.tiny_models import save_folder
from tiny_llm_kit.bench.tenant_chats import Counts, Measured, chats, read_counts, rows
from tiny_llm_kit.cli.check_replicas import Asked, build_tiny
from tiny_llm_kit.cli.compare_routers import ask_all, count_equal, kill_one, main, settled
from tiny_llm_kit.cli.router_fronts import Front, Served, alone, answering_process, build_counted, kinds
from tiny_llm_kit.models.load import load
from tiny_llm_kit.models.tiny_random import tiny_config
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.paged import PagedSizes


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if neither Ray nor vllm-router was there."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find_spec(name))
    monkeypatch.setattr(shutil, "which", lambda name: None)


@pytest.mark.usefixtures("nothing_installed")
def test_without_routers_it_says_how_to_get_them() -> None:
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 1
    assert "pdm run setup-replicas" in result.output
    assert "pipx install vllm-router" in result.output
    assert [kind.name for kind in kinds() if not kind.missing] == ["one server"]


@pytest.mark.parametrize("arguments", [["--requests", "0"], ["--tenants", "0"], ["--seed", "-1"], ["--solution", "none"]])
def test_refuses(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2


def test_the_list_is_that_of_its_seed() -> None:
    assert chats(5, 20, 8, seed=3) == chats(5, 20, 8, seed=3)
    assert chats(5, 20, 8, seed=3) != chats(5, 20, 8, seed=4)
    with pytest.raises(ValueError, match="0 tenants"):
        chats(0, 20, 8)


def test_requests_of_a_tenant_have_a_beginning_of_their_own_and_a_question_that_nobody_else_has() -> None:
    bodies = chats(4, 200, 8, seed=1)
    beginnings = {(body["user"], body["prompt"].split("\n\n")[0]) for body in bodies}
    assert len(beginnings) == len({user for user, _ in beginnings}) == len({text for _, text in beginnings}) == 4
    assert len({body["prompt"] for body in bodies}) == 200
    first, last = (sum(body["user"] == f"tenant {number}" for body in bodies) for number in (0, 3))
    assert first > 2 * last, "tenants are of unequal size: the first sends four times as much as the fourth"


def test_counts_are_read_from_the_metrics_of_a_server() -> None:
    text = ref.ServerMetrics("tiny", lambda: ref.EngineSnapshot(prefix_cache_queries=1_000_000, prefix_cache_hits=700)).text()
    assert read_counts(text.decode()) == Counts(1_000_000, 700, 0)
    with pytest.raises(ValueError, match="prefix_cache_hits_total"):
        read_counts("\n".join(line for line in text.decode().splitlines() if "prefix_cache_hits" not in line) + "\n")


def test_a_row_has_what_was_computed_and_how_evenly() -> None:
    one = Measured("one", (Counts(1000, 800, 50),), 10, 10, 0)
    two = Measured("two", (Counts(600, 300, 100), Counts(400, 300, 100)), 10, 9, 1)
    assert rows([one, two]) == [
        ["one", "200", "20%", "1.00", "—", "10 of 10", "0"],
        ["two", "400", "40%", "2.00", "1.33", "9 of 10", "1"],  # 400 of 600 tokens of work, where 300 is the mean
    ]


def test_an_answer_without_an_end_is_equal_to_none() -> None:
    right = [Asked({}, "text", "length"), Asked({}, "text", "stop")]
    assert count_equal(right, right) == 2
    torn = [Asked({}, "text"), Asked({}, "text", "stop", error="broken")]
    assert count_equal(torn, right) == count_equal(torn, torn) == 0
    assert count_equal([Asked({}, "text", "stop"), Asked({}, "Text", "stop")], right) == 0


def bodies_of(count: int, max_tokens: int) -> list[dict[str, Any]]:
    body = {"max_tokens": max_tokens, "temperature": 0, "ignore_eos": True, "stream": True}
    return [{**body, "prompt": f"Number {number}", "user": f"tenant {number}"} for number in range(count)]


def test_a_server_that_dies_in_mid_stream_leaves_broken_streams() -> None:
    """The whole measurement but the router: the engine's thread is stopped when half of the streams have begun."""
    with live_server(max_num_seqs=4) as live:
        bodies = bodies_of(8, 60)
        right = asyncio.run(ask_all(live.url, bodies, 8))
        assert count_equal(right, right) == 8, right
        counted = settled(lambda: [read_counts(httpx.get(f"{live.url}/metrics").text)])
        assert counted[0].generated == 8 * 60
        begun: list[int] = []

        def kill() -> None:
            begun.append(len(live.engine.running))
            live.thread.stop()

        killed = kill_one("alone", Front(live.url, lambda: [], kill), bodies, right)
        assert len(begun) == 1
        assert begun[0] > 0, "it is killed while somebody is served"
        assert killed.streams == 8
        assert killed.broken > 0, killed
        assert killed.equal + killed.broken + killed.unanswered == 8


def test_a_replica_writes_its_counts(tmp_path: Path) -> None:
    engine, tokenizer = build_counted(tmp_path, lambda: build_tiny("ref"))
    (path,) = tmp_path.glob("*.json")
    assert json.loads(path.read_text()) == [0, 0, 0], "a replica that nobody asks counts, too"
    engine.generate([[*range(40, 80)]] * 2, 5, tokenizer)
    looked_up, found, generated = json.loads(path.read_text())
    assert (looked_up, generated) == (engine.metrics.prefix_cache_queries, 10)
    assert found == engine.metrics.prefix_cache_hits


def test_a_process_that_does_not_start_is_quoted() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such policy')"]
    with pytest.raises(click.ClickException, match="no such policy"), answering_process(command, "http://127.0.0.1:9"):
        pass


def test_one_server_is_asked_and_counted(tmp_path: Path) -> None:
    folder = str(save_folder(tmp_path, tiny_config()))
    loaded = load(folder)
    longest = WorkItem(prompt=(0,) * 127, max_tokens=1)
    served = Served("ref", folder, loaded.name, loaded.tokenizer, longest, PagedSizes(num_blocks=32, max_num_seqs=2))
    with alone(served) as front:
        asked = asyncio.run(ask_all(front.url, bodies_of(3, 4), 2))
        assert count_equal(asked, asked) == 3, asked
        (counts,) = settled(front.counts)
    assert counts.generated == 12
    assert counts.looked_up > 0
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{front.url}/health")  # it is gone with its block
