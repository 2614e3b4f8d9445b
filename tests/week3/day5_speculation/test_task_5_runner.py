"""Week 3 Day 5, task 5: one call of the model for decodes with and without drafts, and prompt chunks."""

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import pytest

from answer import answer
from day6_engines import drawn_alone
from paged_engines import ask
from speculating import wrong
from support import CountingModel, ToyModel, alone

BLOCK = 4


class WantedModel:
    """Passes calls on, and notes how many logits each is asked for."""

    def __init__(self, model: Any) -> None:
        self.model, self.config = model, model.config
        self.wanted: list[int] = []

    def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
        logits = self.model(*args, **kwargs)
        self.wanted.append(logits.shape[1])
        return logits


def runner(model: Any) -> Any:
    return answer.SpeculativeRunner(model, 40, BLOCK)


def seat(request: Any, *blocks: int) -> Any:
    """Let it hold these blocks."""
    request.blocks = list(blocks)
    return request


def run(
    served: Any,
    decodes: Sequence[Any] = (),
    chunks: Sequence[tuple[Any, int]] = (),
    drafts: Mapping[int, list[int]] | None = None,
) -> dict[Any, list[int]]:
    """The tokens that a step draws, by request."""
    __tracebackhide__ = True
    parts = [answer.Chunk(request, request.offset, request.offset + count) for request, count in chunks]
    result = served.run(answer.MixedPlan(list(decodes), parts, []), drafts or {})
    served.start()
    drawn: dict[Any, list[int]] = {}
    if result is not None:
        requests, places = result
        tokens = places.tokens.tolist()
        assert len(requests) == len(tokens) == places.best.size, "for each place: its request, its token, and its largest logit"
        for request, token in zip(requests, tokens, strict=True):
            drawn.setdefault(request, []).append(token)
    return drawn


def decoding(served: Any, request: Any) -> Any:
    """Read its prompt, and take the first token."""
    [token] = run(served, chunks=[(request, len(request.prompt))])[request]
    request.generated_tokens.append(token)
    return request


@pytest.mark.parametrize("count", [1, 2, 5])
def test_task_5_runner_scores_right_drafts(toy: ToyModel, count: int) -> None:
    served = runner(toy)
    request = decoding(served, seat(ask(6, 9), 7, 2, 9, 4))
    said = alone(toy, request.prompt, 9)
    drawn = run(served, [request], drafts={request.request_id: said[1 : 1 + count]})[request]
    assert drawn == said[1 : 2 + count], (
        f"{count} drafts that are right: a token is drawn after each of them, and one after the last token that was read"
    )


@pytest.mark.parametrize("right", [0, 1, 3])
def test_task_5_runner_scores_wrong_drafts(toy: ToyModel, right: int) -> None:
    served = runner(toy)
    request = decoding(served, seat(ask(6, 9), 7, 2, 9, 4))
    said = alone(toy, request.prompt, 9)
    drafts = [*said[1 : 1 + right], *map(wrong, said[1 + right : 5])]
    drawn = run(served, [request], drafts={request.request_id: drafts})[request]
    assert len(drawn) == 5, "4 drafts: 5 places"
    assert drawn[: right + 1] == said[1 : 2 + right], f"{right} drafts are right, so the tokens up to the one after them are"
    request.generated_tokens += drawn[: right + 1]
    request.offset = 6 + len(request.generated_tokens) - 1
    assert run(served, [request])[request] == said[2 + right : 3 + right], (
        "the next step writes over what was computed for wrong drafts: it begins at `offset`"
    )


def test_task_5_runner_leaves_a_decode_where_it_is(toy: ToyModel) -> None:
    served = runner(toy)
    request = decoding(served, seat(ask(6, 9), 7, 2, 9, 4))
    run(served, [request], drafts={request.request_id: [1, 2, 3]})
    assert (request.offset, request.in_flight) == (6, 0), (
        "how far a request with drafts comes is known when its tokens are read: until then `offset` and `in_flight` stay"
    )


def test_task_5_runner_mixes_all_kinds(toy: ToyModel) -> None:
    counting = CountingModel(wanting := WantedModel(toy))
    served = runner(counting)
    two, none, three = (
        decoding(served, seat(ask(5, 9, 1), 7, 2, 9)),
        decoding(served, seat(ask(6, 9, 2), 4, 1, 8)),
        decoding(served, seat(ask(3, 9, 3), 12, 3, 10)),
    )
    ends, goes_on = seat(ask(7, 9, 4), 13, 11), seat(ask(11, 9, 5), 20, 21, 22)
    said = {r: alone(toy, r.prompt, 9) for r in (two, none, three, ends)}
    drafts = {two.request_id: said[two][1:3], three.request_id: said[three][1:4], none.request_id: []}
    counting.calls.clear(), wanting.wanted.clear()
    drawn = run(served, [two, none, three], [(ends, 7), (goes_on, 6)], drafts)
    assert counting.calls == [(1, 3 + 1 + 4 + 7 + 6)], "decodes, drafts and chunks share one call of the model, in one row"
    assert wanting.wanted == [3 + 1 + 4 + 1], "logits are wanted of decodes and drafts, and of the last token of a whole prompt"
    assert drawn == {two: said[two][1:4], none: said[none][1:2], three: said[three][1:5], ends: said[ends][:1]}
    assert (ends.offset, goes_on.offset) == (7, 6), "the `offset` of a chunk's request advances to the chunk's end"


def test_task_5_runner_of_nobody_who_gets_a_token(toy: ToyModel) -> None:
    served, reader = runner(toy), seat(ask(11, 9), 20, 21, 22)
    assert run(served, chunks=[(reader, 6)]) == {}, "a chunk that doesn't reach the end asks for no token"
    assert run(served, chunks=[(reader, 5)])[reader] == alone(toy, reader.prompt, 1)


@pytest.mark.parametrize(
    "sampling", [{"temperature": 3.0}, {"repetition_penalty": 1.5}, {"temperature": 3.0, "repetition_penalty": 1.4}]
)
def test_task_5_runner_draws_each_place_as_the_request_would(toy: ToyModel, sampling: dict[str, float]) -> None:
    served = runner(toy)
    request = ask(6, 9, sampling=answer.SamplingParams(seed=5, **sampling))
    other = decoding(served, seat(ask(5, 9, seed=1), 20, 21, 22))
    said = drawn_alone(toy, request, 7)
    decoding(served, seat(request, 7, 2, 9, 4))
    drafts = {request.request_id: said[1:5], other.request_id: [1, 2]}
    assert run(served, [other, request], drafts=drafts)[request] == said[1:6], (
        "each place is drawn with the request's own sampler, its own position, and the tokens before it, drafts included"
    )


def test_task_5_runner_tells_of_each_place_whether_it_means_anything(toy: ToyModel) -> None:
    class Half(WantedModel):
        def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
            logits = self.model(*args, **kwargs)
            return mx.where(mx.arange(logits.shape[1])[:, None] >= 2, mx.nan, logits) if logits.shape[1] > 1 else logits

    served = runner(Half(toy))
    request = decoding(served, seat(ask(6, 9), 7, 2, 9, 4))
    result = served.run(answer.MixedPlan([request], [], []), {request.request_id: [1, 2, 3]})
    assert mx.isfinite(result[1].best).tolist() == [True, True, False, False], (
        "`best` holds the largest logit of each place, which shows whether its row has NaN"
    )
