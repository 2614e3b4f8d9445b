"""What the tests of task 2 share: a vocabulary, logits, samplers, and requests that have one."""

import json
from typing import Any

import mlx.core as mx
import numpy as np

from answer import answer
from support import make_prompt
from tiny_llm_kit.models.tiny_random import ByteTokenizer
from tiny_llm_kit.models.vocabulary import Vocabulary

VOCABULARY = Vocabulary(ByteTokenizer())
EOS = 256
POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 99}, "kind": {"enum": ["red", "green"]}},
    "required": ["x", "kind"],
    "additionalProperties": False,
}


def make_logits(seed: int, size: int = VOCABULARY.size) -> mx.array:
    """`(V,)`, with a clear order."""
    return mx.array(np.random.default_rng(seed).permutation(size).astype(np.float32) / 20)


def make_sampler(prompt_tokens: int = 0, schema: Any = None, temperature: float = 0.0, seed: int = 0, **options: Any) -> Any:
    """A `ClientSampler` over bytes."""
    if schema is not None:
        options["grammar"] = answer.compile_schema(schema, VOCABULARY)
    params = answer.SamplingParams(temperature=temperature, seed=seed)
    return answer.ClientSampler(params, VOCABULARY, prompt_tokens, **options)


def allowed(schema: Any, written: str | bytes) -> set[str]:
    """The letters that may follow, and "EOS"."""
    guide = answer.JsonGuide(answer.compile_schema(schema, VOCABULARY))
    return named(guide.allowed(list(written.encode() if isinstance(written, str) else written)))


def named(mask: np.ndarray) -> set[str]:
    """The letters of a mask, and "EOS"."""
    return {"EOS" if token == EOS else chr(token) for token in np.flatnonzero(mask).tolist()}


def ask(length: int, max_tokens: int, sampler: Any = None, seed: int = 0, paged: bool = True, **options: Any) -> Any:
    """A request with a random prompt, for either engine. `sampler` gets the prompt's length."""
    kind = answer.PagedRequest if paged else answer.Request
    request = kind(make_prompt(length, seed), max_tokens, **options)
    if sampler is not None:
        request.sampler = sampler(length)
    return request


def written(request: Any) -> Any:
    """The JSON that a request has written; AssertionError if it is none."""
    text = bytes(request.generated_tokens)
    try:
        return json.loads(text)
    except ValueError:
        raise AssertionError(f"request {request.request_id} should have written JSON, and wrote {text!r}") from None
