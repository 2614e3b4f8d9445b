"""Week 3 Day 6, task 7: what a monitor reads, compared with what happened."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from answer import answer
from asgi_client import Exchange
from asgi_client import ask as ask_app
from paged_engines import ask, engine, serve
from support import ToyModel, finish_all
from tiny_llm_kit.models.tiny_random import ByteTokenizer

STATS = {
    "num_requests_running": 3,
    "num_requests_waiting": 14,
    "kv_cache_usage_perc": 0.25,
    "prefix_cache_queries": 40,
    "prefix_cache_hits": 16,
    "num_preemptions": 2,
    "spec_decode_num_draft_tokens": 50,
    "spec_decode_num_accepted_tokens": 35,
}


class Watched:
    """Metrics that read the log of an engine which a test plays itself, on a clock that the test sets."""

    def __init__(self, model_name: str = "toy", **stats: float) -> None:
        self.now = 0.0
        self.stats = SimpleNamespace(**{**STATS, **stats})
        self.metrics = answer.ServerMetrics(model_name, lambda: SimpleNamespace(**vars(self.stats)))
        self.log = answer.EventLog(lambda: self.now)
        self.log.readers.append(self.metrics.read)

    def happens(self, time: float, kind: str, request_id: int = 1, tokens: int = 0) -> None:
        self.now = time
        self.log.record(answer.EventKind[kind], request_id, tokens)

    def close(self, new_tokens: int = 0) -> None:
        self.log.close_step(1, 4, 0, new_tokens)

    def value(self, name: str, **labels: str) -> float:
        __tracebackhide__ = True
        return value(self.metrics.text(), name, **labels)


def value(text: bytes, name: str, **labels: str) -> float:
    """One sample of a scrape, as a monitor reads it; AssertionError if it is not there exactly once."""
    __tracebackhide__ = True
    wanted = {"model_name": "toy", **labels}
    samples = [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]
    found = [sample.value for sample in samples if sample.name == name and sample.labels == wanted]
    if len(found) != 1:
        near = sorted({f"{sample.name} {sample.labels}" for sample in samples if sample.name == name}) or ["no such name"]
        raise AssertionError(f"{name} with {wanted} should be there once, and is {len(found)} times: {'; '.join(near)[:300]}")
    return float(found[0])


def test_task_7_states() -> None:
    watched = Watched()
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        assert watched.value(f"vllm:{name}") == STATS[name]
    watched.stats.num_requests_waiting = 5
    watched.stats.kv_cache_usage_perc = 0.0
    assert watched.value("vllm:num_requests_waiting") == 5, "a state can fall, and each scrape looks again"
    assert watched.value("vllm:kv_cache_usage_perc") == 0, "a state of 0 is told, too"


def test_task_7_counts() -> None:
    watched = Watched()
    names = [name for name in STATS if name not in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")]
    for _ in range(2):
        for name in names:
            assert watched.value(f"vllm:{name}_total") == STATS[name], "scraping twice counts nothing twice"
    types = {family.name: family.type for family in text_string_to_metric_families(watched.metrics.text().decode())}
    assert {types[f"vllm:{name}"] for name in names} == {"counter"}, "a monitor takes the rate of a counter, not of a gauge"
    assert types["vllm:num_requests_running"] == "gauge"


def test_task_7_one_snapshot_per_scrape() -> None:
    asked = []

    def stats() -> Any:
        asked.append(1)
        return SimpleNamespace(**STATS)

    answer.ServerMetrics("toy", stats).text()
    assert len(asked) == 1, f"figures of {len(asked)} moments do not belong together: one snapshot per scrape"


def test_task_7_times_of_a_request() -> None:
    watched = Watched()
    watched.happens(10.0, "ARRIVED", tokens=7)
    watched.happens(10.5, "ADMITTED")
    watched.close()
    watched.happens(11.25, "FIRST_TOKEN")
    watched.close(1)
    watched.happens(12.0, "TOKEN")
    watched.close(1)
    watched.happens(14.25, "TOKEN")
    watched.happens(14.25, "FINISHED", tokens=3)
    watched.close(1)
    expected = {
        "time_to_first_token_seconds": 1.25,
        "request_queue_time_seconds": 0.5,
        "request_time_per_output_token_seconds": 1.5,
        "e2e_request_latency_seconds": 4.25,
    }
    for name, seconds in expected.items():
        assert watched.value(f"vllm:{name}_count") == 1
        assert watched.value(f"vllm:{name}_sum") == pytest.approx(seconds), name
    assert watched.value("vllm:prompt_tokens_total") == 7
    assert watched.value("vllm:generation_tokens_total") == 3
    assert watched.value("tiny_llm:requests_ended_total", end="finished") == 1


def test_task_7_buckets() -> None:
    watched = Watched()
    for request_id, seconds in enumerate([0.015, 0.03, 3.0]):
        watched.happens(100.0 * request_id, "ARRIVED", request_id, 1)
        watched.happens(100.0 * request_id + seconds, "FIRST_TOKEN", request_id)
    watched.close(3)
    found = {
        le: watched.value("vllm:time_to_first_token_seconds_bucket", le=le) for le in ("0.01", "0.02", "0.04", "5.0", "+Inf")
    }
    assert found == {"0.01": 0, "0.02": 1, "0.04": 2, "5.0": 3, "+Inf": 3}, "vLLM's buckets, so that its dashboards fit"


def test_task_7_of_a_single_token() -> None:
    watched = Watched()
    watched.happens(1.0, "ARRIVED", tokens=2)
    watched.happens(2.0, "FIRST_TOKEN")
    watched.happens(2.0, "FINISHED", tokens=1)
    watched.close(1)
    assert watched.value("vllm:request_time_per_output_token_seconds_count") == 0, "there is no time between one token"
    assert watched.value("vllm:e2e_request_latency_seconds_count") == 1


def test_task_7_before_the_first_token() -> None:
    watched = Watched()
    watched.happens(1.0, "ARRIVED", 1, 2)
    watched.happens(1.0, "ARRIVED", 2, 5)
    watched.happens(2.0, "ADMITTED", 1)
    watched.close()
    assert watched.value("vllm:time_to_first_token_seconds_count") == 0
    assert watched.value("vllm:prompt_tokens_total") == 0, "prompts that were not read are not counted"
    watched.happens(3.0, "CANCELLED", 2)
    watched.happens(3.0, "FAILED", 1)
    watched.close()
    ended = {end: watched.value("tiny_llm:requests_ended_total", end=end) for end in ("finished", "cancelled", "failed")}
    assert ended == {"finished": 0, "cancelled": 1, "failed": 1}


@pytest.mark.parametrize("end", ["CANCELLED", "FAILED"])
def test_task_7_half_an_answer_is_not_fast(end: str) -> None:
    watched = Watched()
    watched.happens(1.0, "ARRIVED", tokens=2)
    watched.happens(2.0, "FIRST_TOKEN")
    watched.happens(2.1, end, tokens=2)
    watched.close(2)
    assert watched.value("vllm:time_to_first_token_seconds_count") == 1, "the first token was seen"
    for name in ("e2e_request_latency_seconds", "request_time_per_output_token_seconds"):
        assert watched.value(f"vllm:{name}_count") == 0, "an answer that broke off would make the server look fast"


def test_task_7_a_preempted_request_counts_once() -> None:
    watched = Watched()
    watched.happens(1.0, "ARRIVED", tokens=4)
    watched.happens(2.0, "ADMITTED")
    watched.happens(2.0, "PREFILL_CHUNK", tokens=4)
    watched.happens(3.0, "FIRST_TOKEN")
    watched.happens(4.0, "PREEMPTED")
    watched.happens(5.0, "PREFILL_CHUNK", tokens=5)
    watched.happens(6.0, "TOKEN")
    watched.happens(6.0, "FINISHED", tokens=2)
    watched.close(2)
    assert watched.value("vllm:prompt_tokens_total") == 4, "what is computed again is not another prompt"
    assert watched.value("vllm:time_to_first_token_seconds_sum") == 2
    assert watched.value("vllm:request_time_per_output_token_seconds_sum") == 3


def test_task_7_nothing_is_kept_of_those_who_ended() -> None:
    watched = Watched()
    lengths = []
    for request_id in range(300):
        watched.happens(request_id, "ARRIVED", request_id, 3)
        watched.happens(request_id, "FIRST_TOKEN", request_id)
        watched.happens(request_id, ["FINISHED", "CANCELLED", "FAILED"][request_id % 3], request_id, 2)
        watched.close(2)
        kept = [len(thing) for thing in vars(watched.metrics).values() if hasattr(thing, "__len__")]
        lengths.append(sum(kept))
    assert lengths[-1] <= lengths[2], f"{lengths[-1] - lengths[2]} entries more after 300 requests: a server runs for weeks"


def test_task_7_requests_that_came_before() -> None:
    watched = Watched()
    watched.happens(1.0, "FIRST_TOKEN")
    watched.happens(2.0, "FINISHED", tokens=2)
    watched.close(2)
    assert watched.value("vllm:time_to_first_token_seconds_count") == 0, "it is not known when it arrived"
    assert watched.value("vllm:generation_tokens_total") == 2


def test_task_7_two_servers_in_a_process() -> None:
    first, second = Watched(), Watched("other", num_requests_running=9)
    first.happens(1.0, "ARRIVED", tokens=1)
    first.happens(2.0, "FIRST_TOKEN")
    first.close(1)
    assert first.value("vllm:time_to_first_token_seconds_count") == 1
    assert second.value("vllm:time_to_first_token_seconds_count", model_name="other") == 0, "a registry of its own"
    assert b'"toy"' not in second.metrics.text()
    assert second.value("vllm:num_requests_running", model_name="other") == 9


def test_task_7_a_name_with_quotes() -> None:
    watched = Watched('a "quoted"\\name\n')
    assert watched.value("vllm:num_requests_running", model_name='a "quoted"\\name\n') == 3, (
        "quotes, backslashes and line ends in a label are escaped; prometheus_client does it"
    )


def test_task_7_behind_the_app(toy: ToyModel) -> None:
    thread = answer.EngineThread(lambda: engine(toy))
    thread.start()
    try:
        app = answer.create_app(thread, "toy", ByteTokenizer(), api_key="sk-secret")

        async def main() -> tuple[Exchange, Exchange]:
            body = {"prompt": "Hello", "max_tokens": 4, "ignore_eos": True}
            answered = await ask_app(app, "/v1/completions", body, headers={"authorization": "Bearer sk-secret"})
            return answered, await ask_app(app, "/metrics")

        answered, scraped = asyncio.run(main())
    finally:
        thread.stop()
    assert answered.status == 200, f"the whole server should serve: {answered.body!r:.300}"
    assert scraped.status == 200, "/metrics is for monitors, which have no key"
    assert value(scraped.body, "vllm:generation_tokens_total") == 4
    assert value(scraped.body, "vllm:num_requests_running") == 0


def test_task_7_of_an_engine(toy: ToyModel) -> None:
    served = engine(toy)
    metrics = answer.ServerMetrics("toy", lambda: SimpleNamespace(**STATS))
    served.event_log.readers.append(metrics.read)
    requests = [ask(5, 6), ask(9, 1, seed=1), ask(4, 3, seed=2)]
    serve(served, *requests)
    early = served.submit(ask(7, 9, seed=3))
    served.step()
    served.cancel(early)
    dropped = served.submit(ask(4, 9, seed=4))
    for _ in range(5):
        served.step()
    assert dropped.generated_tokens, "it is cancelled in the middle of its answer"
    served.cancel(dropped)
    finish_all(served)
    text = metrics.text()
    assert value(text, "vllm:generation_tokens_total") == sum(len(one.generated_tokens) for one in [*requests, dropped])
    assert value(text, "vllm:prompt_tokens_total") == 22
    assert value(text, "vllm:e2e_request_latency_seconds_count") == 3
    assert value(text, "vllm:request_time_per_output_token_seconds_count") == 2
    assert value(text, "tiny_llm:requests_ended_total", end="finished") == 3
    assert value(text, "tiny_llm:requests_ended_total", end="cancelled") == 2
