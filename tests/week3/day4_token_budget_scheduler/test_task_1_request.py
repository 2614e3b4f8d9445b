"""Week 3 Day 4, task 1: a request that holds blocks, and that can lose them and begin again."""

from typing import Any

import pytest

from answer import answer
from support import refuses


def make(prompt: int = 5, max_tokens: int = 4, answered: int = 0, **kwargs: Any) -> Any:
    """A request with so many prompt tokens, of whose answer so much has come back."""
    request = answer.PagedRequest(list(range(prompt)), max_tokens, **kwargs)
    request.generated_tokens.extend(range(100, 100 + answered))
    return request


def test_task_1_the_states_of_a_request() -> None:
    request = make(prompt=5)
    assert request.state == "waiting", "a request without blocks waits"
    request.hold([7, 3])
    assert (request.state, request.to_compute) == ("prefilling", 5), "with blocks, it begins with its prompt"
    request.offset = 3
    assert (request.state, request.to_compute) == ("prefilling", 2), "two tokens of the prompt are left: it prefills"
    request.offset, request.in_flight = 5, 1
    assert (request.state, request.to_compute) == ("decoding", 1), (
        "its whole prompt has been launched, and a token is in flight: this token is what the next step computes on"
    )
    request.accept(100)
    request.in_flight = 0
    assert (request.state, request.to_compute) == ("decoding", 1), (
        "when the token has come back, it is known instead of in flight: as many are to be computed as before"
    )
    request.finish("cancelled")
    assert request.state == "finished", "a request that has a finish_reason has finished, whatever it holds"
    request.let_go()
    assert request.state == "finished", "without its blocks it doesn't wait: it is not going to be served again"


def test_task_1_tokens_in_flight_are_to_be_computed_too() -> None:
    request = make(prompt=5, answered=2)
    request.hold([0, 1])
    request.offset, request.in_flight = 7, 1
    assert request.to_compute == 1, "5 + 2 tokens are known and computed, 1 is in flight: that one is left"


@pytest.mark.parametrize(("offset", "state"), [(0, "prefilling"), (5, "prefilling"), (6, "prefilling"), (7, "decoding")])
def test_task_1_a_request_that_was_preempted_computes_its_answer_again(offset: int, state: str) -> None:
    request = make(prompt=5, answered=3)
    request.hold([4, 2])
    request.offset = offset
    assert request.to_compute == 8 - offset, "all 8 known tokens count, the 3 of the answer like those of the prompt"
    assert request.state == state, (
        f"{8 - offset} tokens are left, {offset} of 8 are computed. A request prefills while more than its last token is left,"
        " also beyond the end of its prompt"
    )


@pytest.mark.parametrize("answered", [0, 3])
def test_task_1_hold_begins_behind_what_is_cached(answered: int) -> None:
    request = make(prompt=10, answered=answered)
    request.hold([4, 2, 9], 8)
    assert (request.blocks, request.offset, request.cached) == ([4, 2, 9], 8, 8), (
        "hold: the blocks, and an offset after the tokens that the prefix cache had"
    )
    assert request.to_compute == 2 + answered, f"8 of {10 + answered} known tokens are cached"


def test_task_1_hold_without_a_hit_begins_at_the_first_token() -> None:
    request = make(prompt=10)
    request.hold([1, 2, 3], 8)
    request.let_go()
    request.hold([5, 6, 7])
    assert (request.offset, request.cached) == (0, 0), "nothing is cached this time: what an earlier admission found is gone"


def test_task_1_let_go_returns_the_blocks_and_forgets_what_was_computed() -> None:
    request = make(prompt=5, answered=2)
    request.hold([7, 3, 5], 4)
    request.offset, request.published = 6, 1
    assert request.let_go() == [7, 3, 5], "let_go returns the table, for the owner of the pool"
    assert request.blocks == [], "afterwards the request holds nothing: a second let_go must not return the blocks again"
    assert (request.offset, request.cached, request.published) == (0, 0, 0), (
        "keys and values were in the blocks, so nothing is computed, cached or published any more"
    )
    assert (request.state, request.to_compute) == ("waiting", 7), "it waits, and all 7 known tokens are to be computed"


def test_task_1_the_table_that_let_go_returns_stays_as_it_is() -> None:
    request = make()
    request.hold([7, 3])
    given_back = request.let_go()
    request.hold([1])
    assert (given_back, request.blocks) == ([7, 3], [1]), "the old table and the new one are two lists"
    assert make().blocks == [], "no two requests share a table"


def test_task_1_what_was_answered_and_what_is_in_flight_survive_let_go() -> None:
    request = make(prompt=5, answered=2)
    request.hold([7, 3])
    request.offset, request.in_flight = 7, 1
    request.let_go()
    assert request.generated_tokens == [100, 101], "tokens that came back stay"
    assert request.in_flight == 1, "a token that was launched still comes back, and it is part of the answer"
    assert request.to_compute == 8, "5 of the prompt, 2 that came back, and 1 in flight"


def test_task_1_letting_go_of_nothing_is_harmless() -> None:
    request = make()
    assert request.let_go() == [], "a request that waits holds no blocks"
    assert request.state == "waiting", "and waits on"


def test_task_1_who_is_served_and_when_must_be_clear() -> None:
    fine = make(priority=-1, user="ada", deadline=2)
    assert fine.state == "waiting", "a whole number, a string and a number of seconds are fine"
    for wrong in ({"priority": 1.5}, {"priority": "high"}, {"user": 7}, {"user": None}, {"deadline": "soon"}):
        with refuses(ValueError, f"{wrong} can't be compared with others"):
            make(**wrong)
    with refuses(ValueError, "nothing is earlier or later than nan"):
        make(deadline=float("nan"))
