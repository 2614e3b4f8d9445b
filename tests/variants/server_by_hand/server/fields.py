from collections.abc import Sequence
from typing import Any

from tiny_llm_kit.course import task


@task(week=3, day=6, number=1)
def refuse(value: Any, harmless: Sequence[Any]) -> None:
    for allowed in harmless:
        if value == allowed:
            return
    raise ValueError("not among the things that can be asked for here, so drop it")


@task(week=3, day=6, number=1)
def text_of(content: Any) -> str:
    match content:
        case str():
            return content
        case list():
            return "\n".join(map(_text_of_part, content))
    raise ValueError("expected a text, or a list whose parts are texts")


def _text_of_part(part: Any) -> str:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
    raise ValueError("expected parts of type text only, with their text: pictures and sound can't be read")


@task(week=3, day=6, number=1)
def prompts_of(prompt: Any) -> list[str | list[int]]:
    match prompt:
        case str() | [int(), *_]:
            prompts = [prompt]
        case [_, *_]:
            prompts = list(prompt)
        case _:
            raise ValueError("expected one prompt, or a list with at least one: as text, or as token ids")
    kinds = {type(one) for one in prompts}
    if kinds == {list}:
        for one in prompts:
            if not one or any(type(token) is not int or token < 0 for token in one):
                raise ValueError("token ids are whole numbers that are not negative, and a prompt has at least one")
    elif kinds != {str}:
        raise ValueError("all prompts must be texts, or all must be lists of token ids")
    total = sum(len(one) for one in prompts)
    if total > MAX_TEXT:
        raise ValueError(f"no more than {MAX_TEXT} letters or tokens, please: there are {total}")
    return prompts
