"""The values of a body's fields: their types, their limits, and the forms in which clients write them."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from tiny_llm_kit.course import task

MAX_TEXT = 1_000_000  # letters or token ids in the prompts of one body, or letters in one message
MAX_MESSAGES = 1024
MAX_PROMPTS = 64
MAX_CHOICES = 8
MAX_STOPS, MAX_STOP_LENGTH = 4, 256
MAX_LOGPROBS = 20
MAX_BIASES, MAX_BIAS = 300, 100
MAX_TOKENS = 2**20


@task(week=3, day=6, number=1)
def refuse(value: Any, harmless: Sequence[Any]) -> None:
    """Refuse a field that is not supported, unless its value asks for nothing: then it counts as null.

    Raises:
        ValueError: for any other value.
    """
    raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")


@task(week=3, day=6, number=1)
def text_of(content: Any) -> str:
    """The text of a message: a string, or a list of parts `{"type": "text", "text": …}`, which are joined by line breaks.

    Raises:
        ValueError: for anything else, such as an image.
    """
    raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")


@task(week=3, day=6, number=1)
def prompts_of(prompt: Any) -> list[str | list[int]]:
    """The prompts of a completion: a string, a list of strings, a list of token ids, or a list of such lists.

    Raises:
        ValueError: for anything else, an empty list, a token below 0, or more than `MAX_TEXT` letters and tokens altogether.
    """
    raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")


@task(week=3, day=6, number=1)
def _are_tokens(prompt: Any) -> bool:
    raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")


def _as_list(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


def refused(*harmless: Any) -> BeforeValidator:
    return BeforeValidator(partial(refuse, harmless=harmless), json_schema_input_type=Any)


# Numbers and switches are what they look like in JSON: neither true nor "1" counts as 1.
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Name = Annotated[str, Field(max_length=256)]
Content = Annotated[
    str, BeforeValidator(text_of, json_schema_input_type=str | list[dict[str, Any]]), Field(max_length=MAX_TEXT)
]
Prompts = Annotated[
    list[str | list[int]],
    BeforeValidator(prompts_of, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
    Field(max_length=MAX_PROMPTS),
]
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]
Stops = Annotated[list[Stop], BeforeValidator(_as_list, json_schema_input_type=str | list[str]), Field(max_length=MAX_STOPS)]
Biases = Annotated[
    dict[Annotated[int, Field(ge=0)], Annotated[Number, Field(ge=-MAX_BIAS, le=MAX_BIAS)]], Field(max_length=MAX_BIASES)
]
