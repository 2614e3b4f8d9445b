"""Week 3 Day 6, task 3: the ticket, a bounded queue from the engine's thread to one reader."""

import asyncio
from typing import Any

import pytest

from answer import answer
from engine_threads import begin, read, read_error, run, text, within

pytestmark = pytest.mark.timeout(20)


def ticket(max_unread: int = 8) -> tuple[Any, list[Any]]:
    """A ticket, and the list of those that have been given up."""
    given_up: list[Any] = []
    return answer.Ticket(max_unread, given_up.append), given_up


def piece(letter: str, **last: Any) -> Any:
    return answer.Delta(text=letter, tokens=(ord(letter),), **last)


def test_task_3_ticket_hands_on_deltas_in_order() -> None:
    async def main() -> None:
        one, given_up = ticket()
        for letter in "abc":
            one.put(piece(letter))
        one.put(piece("d", finish_reason="stop"))
        deltas = await read(one)
        assert text(deltas) == "abcd", f"the deltas come out in the order in which they went in, not as {text(deltas)!r}"
        assert not given_up, "this reader is not slow"

    run(main)


def test_task_3_ticket_wakes_a_reader_who_waits() -> None:
    async def main() -> None:
        one, _ = ticket()
        reading = begin(anext(one))
        await asyncio.sleep(0)
        one.put(piece("a"))
        delta = await within(reading, "a reader that waits for a delta is woken by the next `put`")
        assert delta.text == "a"
        reading = begin(anext(one))
        await asyncio.sleep(0)
        one.put(piece("b", finish_reason="length"))
        assert (await within(reading, "the second wait is woken as well")).finish_reason == "length"

    run(main)


def test_task_3_ticket_ends_after_its_last_delta() -> None:
    async def main() -> None:
        for last in (piece("a", finish_reason="stop"), answer.Delta(error=RuntimeError("broken"))):
            one, _ = ticket()
            one.put(last)
            one.put(piece("z"))
            one.put(answer.Delta(error=RuntimeError("late")))
            assert one.ended, "a ticket has ended with its last delta, whether it was read or not"
            deltas = await read(one)
            assert deltas == [last], f"what comes after the last delta is dropped, and {deltas} was read"

    run(main)


def test_task_3_ticket_of_a_slow_reader_is_given_up() -> None:
    async def main() -> None:
        one, given_up = ticket(max_unread=3)
        for letter in "abc":
            one.put(piece(letter))
        assert not given_up, "three deltas may be unread: `max_unread` is 3"
        for letter in "defghij":
            one.put(piece(letter))
        assert given_up == [one], (
            "with the fourth delta the ticket is given up, once, so that nothing more is computed for it; it was"
            f" {len(given_up)} times"
        )
        deltas = await read_error(one, answer.SlowReader)
        assert text(deltas) == "abc", (
            f"a slow reader gets what was kept for it, the beginning of its answer, then the error; not {text(deltas)!r}"
        )
        assert len(deltas) == 4, "the SlowReader comes where the fourth delta would have been"

    run(main)


def test_task_3_ticket_says_what_the_slow_reader_did() -> None:
    async def main() -> None:
        one, _ = ticket(max_unread=1)
        one.put(piece("a"))
        one.put(piece("b"))
        *_, last = await read_error(one, answer.SlowReader)
        assert "read" in str(last.error), f"the error says that the client did not read, and this one says: {last.error}"

    run(main)


def test_task_3_ticket_full_at_the_end_is_not_a_whole_answer() -> None:
    async def main() -> None:
        one, given_up = ticket(max_unread=2)
        for letter in "ab":
            one.put(piece(letter))
        one.put(piece("c", finish_reason="length"))
        await read_error(one, answer.SlowReader)
        assert given_up == [one], "the request is given up, once: its client has not read all of the answer"

    run(main)


def test_task_3_ticket_that_is_read_is_never_full() -> None:
    async def main() -> None:
        one, given_up = ticket(max_unread=2)
        got = []
        for letter in "abcdefghij":
            one.put(piece(letter))
            got.append(await within(anext(one), "a delta that is there is read at once"))
        one.put(piece("k"))
        one.put(piece("l", finish_reason="stop"))
        got += await read(one)
        assert text(got) == "abcdefghijkl", f"two unread deltas are allowed, and the answer came out as {text(got)!r}"
        assert not given_up

    run(main)


def test_task_3_ticket_gives_the_answer_as_a_whole() -> None:
    async def main() -> None:
        one, _ = ticket()
        one.put(answer.Delta("he", (1, 2), ("x", "y")))
        one.put(answer.Delta("y", (3,), ("z",), finish_reason="stop"))
        whole = await within(one.whole(), "the ticket ends")
        assert whole == answer.Delta("hey", (1, 2, 3), ("x", "y", "z"), "stop"), (
            "`whole` puts all deltas together, with the last one's reason"
        )
        broken, _ = ticket()
        broken.put(piece("a"))
        broken.put(answer.Delta(error=RuntimeError("broken")))
        with pytest.raises(RuntimeError, match="broken"):
            await within(broken.whole(), "the ticket ends")

    run(main)
