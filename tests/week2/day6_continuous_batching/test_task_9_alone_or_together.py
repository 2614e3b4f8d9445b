"""Task 9: testing and benchmarking. A neighbour never matters, everything is accounted for, and it is worth the trouble."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from answer import answer
from support import (
    POISON,
    CountingModel,
    FragileModel,
    NearTie,
    RealModel,
    ToyModel,
    alone,
    finish_all,
    is_poisoned,
    make_prompt,
    step_until,
    until_eos,
)
from tiny_llm_kit.workloads.lists import heavy_tail

EXAMPLES = 25
MAX_SEQ_LEN = 40

STRATEGIES = st.sampled_from([answer.Fifo, answer.ShortestRemaining, answer.LengthBalance])


@dataclass(frozen=True)
class Client:
    """Somebody who asks after `arrival` steps, and may lose interest after `patience` steps more."""

    prompt_length: int
    max_tokens: int
    seed: int = 0
    temperature: float = 0.0
    penalty: float = 1.0
    eos_at: int | None = None
    arrival: int = 0
    patience: int | None = None

    @property
    def prompt(self) -> list[int]:
        return make_prompt(self.prompt_length, self.seed)

    @property
    def sampling(self) -> Any:
        return answer.SamplingParams(self.temperature, repetition_penalty=self.penalty, seed=self.seed)

    def undisturbed(self, toy: ToyModel) -> tuple[list[int], set[int]]:
        """What this client should be told, and the tokens at which to end: its answer's own, at `eos_at`."""
        room = min(self.max_tokens, MAX_SEQ_LEN - self.prompt_length)
        tokens = self._drawn(toy, room) if self.temperature else alone(toy, self.prompt, room, penalty=self.penalty)
        eos = set() if self.eos_at is None else set(tokens[self.eos_at : self.eos_at + 1])
        return until_eos(tokens, eos), eos

    def _drawn(self, toy: ToyModel, tokens: int) -> list[int]:
        """Drawing is the answer's own, so what is right is what it draws in an engine without neighbours."""
        scheduler = new_engine(toy, slots=1, prefill_step=MAX_SEQ_LEN)
        request = scheduler.submit(answer.Request(self.prompt, tokens, self.sampling))
        finish_all(scheduler)
        return request.generated_tokens


CLIENTS = st.builds(
    Client,
    prompt_length=st.integers(1, 24),
    max_tokens=st.integers(1, 14) | st.just(MAX_SEQ_LEN),
    seed=st.integers(0, 2),
    temperature=st.sampled_from([0.0, 0.0, 0.0, 3.0]),
    penalty=st.sampled_from([1.0, 1.0, 1.5]),
    eos_at=st.none() | st.integers(0, 10),
    arrival=st.just(0) | st.integers(0, 12),
    patience=st.none() | st.none() | st.integers(0, 15),
)


def new_engine(model: Any, slots: int, prefill_step: int = 8, strategy: Any = None) -> Any:
    return answer.ContinuousBatchScheduler(model, slots, max_seq_len=MAX_SEQ_LEN, prefill_step=prefill_step, strategy=strategy)


# Whatever the traffic.


@hypothesis_settings(max_examples=EXAMPLES)
@given(
    clients=st.lists(CLIENTS, min_size=1, max_size=7),
    slots=st.integers(1, 5),
    prefill_step=st.integers(1, 16),
    strategy=STRATEGIES,
)
def test_task_9_alone_or_together(toy: ToyModel, clients: list[Client], slots: int, prefill_step: int, strategy: Any) -> None:
    model = CountingModel(toy)
    scheduler = new_engine(model, slots, prefill_step, strategy())
    scheduler.check_integrity()
    try:
        expected = [client.undisturbed(toy) for client in clients]
    except NearTie:
        reject()
    requests = [
        answer.Request(client.prompt, client.max_tokens, client.sampling, eos)
        for client, (_, eos) in zip(clients, expected, strict=True)
    ]

    ended: list[Any] = []
    work = sum(len(client.prompt) + MAX_SEQ_LEN for client in clients)
    for now in range(max(client.arrival for client in clients) + work):
        for client, request in zip(clients, requests, strict=True):
            if client.arrival == now:
                scheduler.submit(request)
            if client.patience is not None and client.arrival + client.patience == now:
                scheduler.cancel(request)
        scheduler.check_integrity()
        if not scheduler.has_work and all(request.state == "finished" for request in requests):
            break
        ended += scheduler.step()
        scheduler.check_integrity()
    else:
        pytest.fail(f"after {now} steps some requests have not ended: {[request.state for request in requests]}")

    assert sorted(r.request_id for r in ended) == [r.request_id for r in requests], "step returns each request once"
    for client, request, (tokens, _) in zip(clients, requests, expected, strict=True):
        if request.finish_reason == "cancelled":
            assert client.patience is not None, "nobody cancelled it"
            tokens = tokens[: len(request.generated_tokens)]
        assert request.generated_tokens == tokens, f"{client} was told something else than when nobody else is there"
    assert max(model.decode_rows, default=0) <= slots
    told = sum(len(request.generated_tokens) for request in requests)
    # Prompt chunks of one token look like decode rows; a row too many is allowed to who ends by an EOS or is cancelled.
    crumbs = sum(client.prompt_length for client in clients) if prefill_step == 1 else 2 * len(clients)
    assert sum(model.decode_rows) <= told + 2 * len(clients) + crumbs, "rows were computed that nobody needed"


@dataclass(frozen=True)
class Accident:
    """What a client's on_update does when `after` tokens have come."""

    kind: str
    after: int
    whom: int


ACCIDENTS = st.builds(
    Accident,
    kind=st.sampled_from(["nothing", "raise", "leave", "cancel another", "ask again", "poisoned prompt"]),
    after=st.integers(1, 6),
    whom=st.integers(0, 5),
)


@hypothesis_settings(max_examples=EXAMPLES)
@given(
    accidents=st.lists(ACCIDENTS, min_size=1, max_size=6),
    max_tokens=st.lists(st.integers(1, 8), min_size=6, max_size=6),
    slots=st.integers(1, 4),
    late=st.booleans(),
)
def test_task_9_accidents_stay_where_they_happen(
    toy: ToyModel, accidents: list[Accident], max_tokens: list[int], slots: int, late: bool
) -> None:
    model = CountingModel(FragileModel(toy, is_poisoned, late))
    scheduler = new_engine(model, slots)
    scheduler.check_integrity()
    requests: list[Any] = []

    def happen(accident: Accident) -> Callable[[Any, str], None]:
        def on_update(request: Any, new_text: str) -> None:
            if len(request.generated_tokens) != accident.after or request.finish_reason == "cancelled":
                return
            match accident.kind:
                case "raise":
                    raise OSError("the client's connection is gone")
                case "leave":
                    scheduler.cancel(request)
                case "cancel another":
                    scheduler.cancel(requests[accident.whom % len(requests)])
                case "ask again":
                    requests.append(scheduler.submit(answer.Request(make_prompt(5), 3)))

        return on_update

    for row, accident in enumerate(accidents):
        prompt = make_prompt(3 + 4 * row, seed=1)
        if accident.kind == "poisoned prompt":
            prompt[-1] = POISON
        requests.append(answer.Request(prompt, max_tokens[row], on_update=happen(accident)))
    for request in list(requests):
        scheduler.submit(request)
    ended = finish_all(scheduler, after_step=scheduler.check_integrity)

    assert sorted(r.request_id for r in ended) == sorted(r.request_id for r in requests), "step returns each request once"
    for row, request in enumerate(requests):
        kind = accidents[row].kind if row < len(accidents) else "nothing"
        assert request.state == "finished"
        if kind == "poisoned prompt" and request.finish_reason != "cancelled":
            assert (request.finish_reason, request.generated_tokens) == ("error", [])
            continue
        tokens = alone(toy, request.prompt, request.max_tokens)
        if request.finish_reason == "length":
            assert request.generated_tokens == tokens, "this request had no accident, so a neighbour's must not matter"
        else:
            assert request.finish_reason == "cancelled" or kind == "raise", f"it ended with {request.error!r}"
            assert request.generated_tokens == tokens[: len(request.generated_tokens)]
    model.calls.clear()
    after = [scheduler.submit(answer.Request(make_prompt(4, seed), 20)) for seed in range(slots)]
    finish_all(scheduler, after_step=scheduler.check_integrity)
    assert [r.generated_tokens for r in after] == [alone(toy, r.prompt, 20) for r in after]
    assert max(model.decode_rows) == slots, "after all accidents every slot must be there again"


# check_integrity itself.


def test_task_9_integrity_through_the_life_of_a_batch(toy: ToyModel) -> None:
    scheduler = new_engine(toy, slots=3)
    scheduler.check_integrity()
    requests = [scheduler.submit(answer.Request(make_prompt(length), 5)) for length in (4, 20, 3, 9, 1)]
    scheduler.check_integrity()
    step_until(scheduler, lambda: requests[0].state == "decoding")
    scheduler.cancel(requests[0])
    scheduler.check_integrity()
    finish_all(scheduler, after_step=scheduler.check_integrity)


def test_task_9_a_lost_slot_is_noticed(toy: ToyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    new_engine(toy, slots=2).check_integrity()
    give_back = answer.SlotManager.free_slot

    def leak(manager: Any, request_id: int) -> int:
        slot = give_back(manager, request_id)
        manager.allocate_slot(-1 - request_id)  # an owner whom nobody knows
        return slot

    monkeypatch.setattr(answer.SlotManager, "free_slot", leak)
    scheduler = new_engine(toy, slots=2)
    scheduler.submit(answer.Request(make_prompt(4), 3))
    finish_all(scheduler)
    with pytest.raises(RuntimeError):
        scheduler.check_integrity()


# Baselines, and what continuous batching gains over them.


def some_requests(*max_tokens: int) -> list[Any]:
    return [answer.Request(make_prompt(3 + 2 * row), tokens) for row, tokens in enumerate(max_tokens)]


def assert_alone(toy: ToyModel, requests: list[Any]) -> None:
    for request in requests:
        assert request.state == "finished"
        assert request.generated_tokens == alone(toy, request.prompt, request.max_tokens, request.eos_token_ids)


def test_task_9_sequential_is_one_after_another(toy: ToyModel) -> None:
    model = CountingModel(toy)
    requests = some_requests(5, 9, 2, 4)
    metrics = answer.run_sequential(model, requests, 64, 8)
    assert_alone(toy, requests)
    assert max(model.decode_rows) == 1, "a batch of one"
    assert metrics.total_requests == 4
    ends = metrics.values("latency")
    assert ends == sorted(ends), "first come, first served"


def test_task_9_continuous_serves_all(toy: ToyModel) -> None:
    model = CountingModel(toy)
    requests = some_requests(5, 9, 2, 4)
    metrics = answer.run_continuous(model, requests, 3, 64, 8)
    assert_alone(toy, requests)
    assert max(model.decode_rows) == 3
    assert metrics.total_requests == len(metrics.values("latency")) == 4


def test_task_9_static_groups_wait_for_their_longest(toy: ToyModel) -> None:
    model = CountingModel(toy)
    requests = some_requests(12, 2, 3, 4, 9, 1, 2)
    metrics = answer.run_static(model, requests, 3, 8, clock=lambda: 0.0)
    assert_alone(toy, requests)
    steps = len(model.decode_rows)
    # The first token of an answer comes from prefill or, in another engine, from one decode step more.
    assert 11 + 8 + 1 <= steps <= 12 + 9 + 2, f"groups of 3 with longest answers 12, 9 and 2: {steps} steps are too few or many"
    assert sum(model.decode_rows) >= 3 * (11 + 8) + 1, "rows that are done run on with their group: that is the cost of it"
    assert metrics.total_requests == len(metrics.values("latency")) == 7
    assert metrics.slot_utilization < 0.7, "rows that have nothing more to say are not in use"


def test_task_9_static_lets_nobody_join(toy: ToyModel) -> None:
    events: list[tuple[int, str]] = []
    requests = [
        answer.Request(make_prompt(4), tokens, on_update=lambda r, _, row=row: events.append((row, r.state)))
        for row, tokens in enumerate((10, 2, 3, 4))
    ]
    answer.run_static(toy, requests, 2, 8)
    first_of_second_group = next(i for i, (row, _) in enumerate(events) if row >= 2)
    assert events.index((0, "finished")) < first_of_second_group, (
        "request 0 is the longest of its group: the others wait for it"
    )


@pytest.mark.parametrize("position", [0, 3])
def test_task_9_static_knows_the_end_of_an_answer(toy: ToyModel, position: int) -> None:
    eos = alone(toy, make_prompt(3), 8)[position]
    requests = [answer.Request(make_prompt(3), 8, eos_token_ids=[eos]), answer.Request(make_prompt(7), 6)]
    answer.run_static(toy, requests, 2, 8)
    assert_alone(toy, requests)
    assert requests[0].finish_reason == "stop"


def test_task_9_what_it_is_good_for(toy: ToyModel) -> None:
    """Most answers are short and a few are long: a static batch waits for its longest, a continuous one does not."""
    answer.run_static(toy, [], 1)
    items = heavy_tail(vocab_size=256)
    models = {name: CountingModel(toy) for name in ("static", "continuous")}
    waves = {name: [answer.Request(item.prompt, item.max_tokens) for item in items] for name in models}
    static = answer.run_static(models["static"], waves["static"], 4, 256)
    continuous = answer.run_continuous(models["continuous"], waves["continuous"], 4, 512, 256)

    assert [r.generated_tokens for r in waves["static"]] == [r.generated_tokens for r in waves["continuous"]]
    assert [len(r.generated_tokens) for r in waves["continuous"]] == [item.max_tokens for item in items]
    steps = {name: len(model.decode_rows) for name, model in models.items()}
    assert steps["continuous"] < 0.7 * steps["static"], f"decode steps: {steps}. Is a free slot given to the next at once?"
    assert sum(models["continuous"].decode_rows) <= sum(item.max_tokens for item in items) + len(items)
    assert continuous.slot_utilization_while_waiting >= 0.95, (
        f"while somebody waits, {continuous.slot_utilization_while_waiting:.0%} of the slots are in use: fill them at once"
    )
    assert static.slot_utilization_while_waiting < continuous.slot_utilization_while_waiting


# And with a model that says something.


def test_task_9_the_real_model_in_changing_company(toy: ToyModel, request: pytest.FixtureRequest) -> None:
    new_engine(toy, slots=1).check_integrity()  # before the real model is loaded, which takes a while
    real: RealModel = request.getfixturevalue("real")
    model = CountingModel(answer.Model(real.loaded.config, real.loaded.weights))
    scheduler = answer.ContinuousBatchScheduler(model, 2, max_seq_len=128, prefill_step=16)
    first = scheduler.submit(answer.Request(real.chat("Name three primes."), 12, eos_token_ids=real.tokenizer.eos_token_ids))
    step_until(scheduler, lambda: len(first.generated_tokens) == 3)
    later = [
        scheduler.submit(answer.Request(real.chat(text), tokens, eos_token_ids=real.tokenizer.eos_token_ids))
        for text, tokens in (("Hi!", 5), ("What is the capital of France?", 10))
    ]
    finish_all(scheduler, after_step=scheduler.check_integrity)
    for served in (first, *later):
        expected = real.alone(served.prompt, served.max_tokens)
        assert served.generated_tokens == expected, f"mlx-lm's answer is {real.tokenizer.decode(expected)!r}"
    assert max(model.decode_rows) == 2
