"""Task 9: a neighbour never matters. Whatever the traffic, every answer is the one that its request gets alone."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from answer import answer
from support import (
    CountingModel,
    NearTie,
    RealModel,
    ToyModel,
    alone,
    expect_no_error,
    finish_all,
    make_prompt,
    step_until,
    until_eos,
)

EXAMPLES = 40
MAX_SEQ_LEN = 32

STRATEGIES = st.sampled_from([answer.Fifo, answer.ShortestRemaining, answer.LengthBalance])


@dataclass(frozen=True)
class Client:
    """A client that asks after `arrival` steps, and may lose interest after `patience` steps more."""

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
        expect_no_error(request)
        return request.generated_tokens


CLIENTS = st.builds(
    Client,
    prompt_length=st.integers(1, 20),
    max_tokens=st.integers(1, 9) | st.integers(1, 9) | st.just(MAX_SEQ_LEN),
    seed=st.integers(0, 2),
    temperature=st.sampled_from([0.0, 0.0, 0.0, 3.0]),
    penalty=st.sampled_from([1.0, 1.0, 1.5]),
    eos_at=st.none() | st.integers(0, 10),
    arrival=st.just(0) | st.integers(0, 12),
    patience=st.none() | st.none() | st.integers(0, 15),
)


def new_engine(model: Any, slots: int, prefill_step: int, strategy: Any = None) -> Any:
    return answer.ContinuousBatchScheduler(model, slots, max_seq_len=MAX_SEQ_LEN, prefill_step=prefill_step, strategy=strategy)


@settings(max_examples=EXAMPLES)
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

    expect_no_error(*requests)
    assert sorted(r.request_id for r in ended) == [r.request_id for r in requests], "step returns each ended request once"
    for client, request, (tokens, _) in zip(clients, requests, expected, strict=True):
        if request.finish_reason == "cancelled":
            assert client.patience is not None, f"{client} did not cancel"
            tokens = tokens[: len(request.generated_tokens)]
        assert request.generated_tokens == tokens, (
            f"{client} was told something else than when it is alone: its row, position or mask was another's, or a"
            " token was lost or taken twice"
        )
    assert max(model.decode_rows, default=0) <= slots, f"a step has at most {slots} rows, one for each slot"
    told = sum(len(request.generated_tokens) for request in requests)
    # Prompt chunks of one token look like decode rows; a row too many is allowed to who ends by an EOS or is cancelled.
    crumbs = sum(client.prompt_length for client in clients) if prefill_step == 1 else 2 * len(clients)
    assert sum(model.decode_rows) <= told + 2 * len(clients) + crumbs, "rows were computed that no request needed"


# And with a model that says something.


@pytest.mark.real_model
def test_task_9_the_real_model_in_changing_company(toy: ToyModel, request: pytest.FixtureRequest) -> None:
    new_engine(toy, slots=1, prefill_step=8).check_integrity()  # before the real model is loaded, which takes a while
    real: RealModel = request.getfixturevalue("real")
    model = CountingModel(answer.Model(real.loaded.config, real.loaded.weights))
    scheduler = answer.ContinuousBatchScheduler(model, 2, max_seq_len=128, prefill_step=16)
    first = scheduler.submit(answer.Request(real.chat("Name three primes."), 9, eos_token_ids=real.tokenizer.eos_token_ids))
    step_until(scheduler, lambda: len(first.generated_tokens) == 2)
    later = [
        scheduler.submit(answer.Request(real.chat(text), tokens, eos_token_ids=real.tokenizer.eos_token_ids))
        for text, tokens in (("Hi!", 4), ("What is the capital of France?", 7))
    ]
    finish_all(scheduler, after_step=scheduler.check_integrity)
    expect_no_error(first, *later)
    for served in (first, *later):
        expected = real.alone(served.prompt, served.max_tokens, served.generated_tokens)
        assert served.generated_tokens == expected, f"mlx-lm's answer is {real.tokenizer.decode(expected)!r}"
    assert max(model.decode_rows) == 2, "two slots, and never two rows in a decode step"
