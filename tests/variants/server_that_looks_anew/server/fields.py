from collections.abc import Sequence
from itertools import chain
from typing import Any

from tiny_llm_kit.course import task


@task(week=3, day=6, number=1)
def refuse(value: Any, harmless: Sequence[Any]) -> None:
    if not any(value == one for one in harmless):
        choices = " or ".join(map(repr, (None, *harmless)))
        raise ValueError(f"not implemented, so it must be {choices}")


@task(week=3, day=6, number=1)
def text_of(content: Any) -> str:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if isinstance(parts, list) and all(isinstance(part, dict) for part in parts):
        texts = [part.get("text") for part in parts if part.get("type") == "text"]
        if len(texts) == len(parts) and all(isinstance(text, str) for text in texts):
            return "\n".join(texts)
    raise ValueError("a message is a text, or a list of parts with the type 'text' and a text each")


@task(week=3, day=6, number=1)
def prompts_of(prompt: Any) -> list[str | list[int]]:
    whole = [prompt] if isinstance(prompt, str) else prompt
    if isinstance(whole, list) and whole and all(type(token) is int for token in whole):
        whole = [whole]
    right = isinstance(whole, list) and len(whole) > 0
    if right and not all(isinstance(one, str) for one in whole):
        right = all(isinstance(one, list) and len(one) > 0 for one in whole)
        right = right and all(type(token) is int and token >= 0 for token in chain.from_iterable(whole))
    if not right:
        raise ValueError("a prompt is a text or a list of token ids from 0 on; several prompts of one kind are a list of them")
    length = sum(len(one) for one in whole)
    if length > MAX_TEXT:
        raise ValueError(f"of letters or tokens there are {length}, more than {MAX_TEXT}")
    return whole
