"""Week 3 Day 6, task 1: the parts of an answer that take some thought. The shapes themselves are given."""

from typing import Any

from answer import answer


def drawn(token: bytes, logprob: float, *others: tuple[bytes, float]) -> Any:
    """A token in the form of chats, next to other likely ones."""

    def fields(written: bytes, logprob: float) -> dict[str, Any]:
        return {"token": written.decode(errors="backslashreplace"), "logprob": logprob, "bytes": list(written)}

    likely = [answer.TokenChance(**fields(*other)) for other in others]
    return answer.TokenLogprobs(**fields(token, logprob), top_logprobs=likely)


def test_task_1_usage() -> None:
    assert answer.Usage.count(3, 4).model_dump() == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, (
        "OpenAI's names, and the sum"
    )


def test_task_1_logprobs_in_the_old_form() -> None:
    tokens = [drawn(b"He", -0.5, (b"He", -0.5), (b"Ho", -1.5)), drawn(b"llo", -2.0, (b"y", -0.1), (b"n", -1.0))]
    old = answer.CompletionLogprobs.of(tokens).model_dump()
    assert old == {
        "tokens": ["He", "llo"],
        "token_logprobs": [-0.5, -2.0],
        "top_logprobs": [{"He": -0.5, "Ho": -1.5}, {"y": -0.1, "n": -1.0, "llo": -2.0}],
        "text_offset": [0, 2],
    }, "completions have four lists, in which the drawn token is always among the likely ones"


def test_task_1_offsets_in_a_stream() -> None:
    old = answer.CompletionLogprobs.of([drawn(b"ab", -1.0), drawn(b"c", -1.0)], start=7)
    assert old.text_offset == [7, 9], "a chunk's offsets go on where the last one's text ended"


def test_task_1_offsets_count_letters() -> None:
    euro = "€".encode()
    old = answer.CompletionLogprobs.of([drawn(b"a", -1.0), drawn(euro[:2], -1.0), drawn(euro[2:], -1.0), drawn(b"b", -1.0)])
    assert old.text_offset == [0, 1, 1, 2], "a letter that is spread over tokens is one letter, where it begins"


def test_task_1_no_tokens() -> None:
    old = answer.CompletionLogprobs.of([]).model_dump()
    assert old == {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}, "four empty lists"
