"""What the batching tests are built on: a small transformer of our own, what it says alone, and models that watch or break.

Nothing here comes from the package under test: a mistake there cannot hide in the expected tokens as well.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np

from endless import DidNotEnd
from first_difference import Call, explain
from tiny_llm_kit.bench.counting_model import CountingModel as CountingModel
from tiny_llm_kit.bench.peer import mlx_lm_model
from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.models.load import load
from tiny_llm_kit.models.tiny_random import ByteTokenizer, tiny_config

NEAR_TIE = 1e-3
"""Rows of a batch are summed in another order than a row alone, which moves the toy's logits by about 1e-5. Expected tokens
come only from logits whose best two are a hundred times further apart, so that no test depends on rounding."""

POISON = ByteTokenizer.vocab_size - 1
"""A token that the toy model never generates: it marks prompts on which a `FragileModel` should fail."""

MOST_CALLS = 20_000
"""Calls of one model within one test. The longest test needs a tenth of them."""

_HEADS, _KV_HEADS, _HEAD_DIM, _WIDTH, _LONGEST = 4, 2, 8, 32, 512


class ToyModel:
    """Two random layers with grouped-query attention and learned positions; it writes printable ASCII and never an EOS.

    Projections amplify, so that every earlier token and every position shows in the logits: a token that is missing,
    misplaced, or another request's changes the text within a few tokens.
    """

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)

        def matrix(rows: int, columns: int, gain: float) -> mx.array:
            return mx.array((gain / np.sqrt(columns) * random.standard_normal((rows, columns))).astype(np.float32))

        self.config: ModelConfig = tiny_config(
            num_layers=2,
            hidden_size=_WIDTH,
            num_heads=_HEADS,
            num_kv_heads=_KV_HEADS,
            head_dim=_HEAD_DIM,
            intermediate_size=2 * _WIDTH,
            max_position_embeddings=_LONGEST,
        )
        self.token_embedding = matrix(self.config.vocab_size, _WIDTH, np.sqrt(_WIDTH))
        self.position_embedding = matrix(_LONGEST, _WIDTH, np.sqrt(_WIDTH))
        shapes = {
            "q": (_HEADS * _HEAD_DIM, _WIDTH),
            "k": (_KV_HEADS * _HEAD_DIM, _WIDTH),
            "v": (_KV_HEADS * _HEAD_DIM, _WIDTH),
            "o": (_WIDTH, _HEADS * _HEAD_DIM),
            "up": (2 * _WIDTH, _WIDTH),
            "down": (_WIDTH, 2 * _WIDTH),
        }
        self.layers = [{name: matrix(*shape, gain=2) for name, shape in shapes.items()} for _ in range(2)]
        self.head = matrix(self.config.vocab_size, _WIDTH, gain=8)
        ids = np.arange(self.config.vocab_size)
        self.only_printable = mx.array(np.where((ids >= 32) & (ids < 127), 0, -1e9).astype(np.float32))
        self.answers: dict[tuple[tuple[int, ...], float], list[int]] = {}
        self.begin_test()

    def __call__(
        self,
        tokens: mx.array,
        offset: int | mx.array = 0,
        cache: Sequence[Any] | None = None,
        mask: mx.array | str | None = "causal",
        logits_to_keep: int | mx.array | None = None,
    ) -> mx.array:
        """The calling convention of the course's `Model`: a position for each row or for each token, and as many last logits as
        are wanted or those at certain places.

        Raises:
            DidNotEnd: in an engine that calls it for ever, since nothing else can stop its `run`.
        """
        length = tokens.shape[1]
        states = self.hidden_states(tokens, offset, cache, mask)
        if cache is not None:
            self._note(tokens, offset, states, int(length == 1) if logits_to_keep is None else logits_to_keep)
        x = states[-1]
        if isinstance(logits_to_keep, mx.array):
            x = x[:, logits_to_keep]
        elif logits_to_keep is not None:
            x = x[:, length - logits_to_keep :]
        return _norm(x) @ self.head.T + self.only_printable

    def begin_test(self) -> None:
        """Forget the calls of the test before."""
        self.calls: list[Call] = []

    def _note(self, tokens: mx.array, offset: int | mx.array, states: list[mx.array], wanted: int | mx.array) -> None:
        if len(self.calls) == MOST_CALLS:
            raise DidNotEnd(f"the model was called {MOST_CALLS} times in this test: which request never ends, and why?")
        if isinstance(wanted, mx.array):
            last = states[-1] if wanted.size else mx.zeros((len(tokens), 0, _WIDTH))
        else:
            last = states[-1][:, -1:] if wanted else mx.zeros((len(tokens), 0, _WIDTH))
        self.calls.append(Call(len(self.calls) + 1, tokens, offset, [*states[:-1], last]))

    def hidden_states(
        self,
        tokens: mx.array,
        offset: int | mx.array = 0,
        cache: Sequence[Any] | None = None,
        mask: mx.array | str | None = "causal",
    ) -> list[mx.array]:
        """After each layer, `(B, L, D)`."""
        positions = mx.array(offset)
        if positions.ndim < 2:
            positions = positions.reshape(-1, 1) + mx.arange(tokens.shape[1])
        x = self.token_embedding[tokens] + self.position_embedding[positions]
        states = []
        for weights, layer_cache in zip(self.layers, cache or [None] * len(self.layers), strict=True):
            x = x + self._attention(weights, _norm(x), layer_cache, mask)
            x = x + mx.maximum(_norm(x) @ weights["up"].T, 0) @ weights["down"].T
            states.append(x)
        return states

    def _attention(self, weights: dict[str, mx.array], x: mx.array, cache: Any, mask: mx.array | str | None) -> mx.array:
        batch, length, _ = x.shape
        q, k, v = ((x @ weights[name].T).reshape(batch, length, -1, _HEAD_DIM).swapaxes(1, 2) for name in "qkv")
        if cache is not None and not hasattr(cache, "update_and_fetch"):  # it walks its own tables
            out = cache.attend(q, k, v, _HEAD_DIM**-0.5, mask, _attend)
        else:
            if cache is not None:
                k, v, _, mask = cache.update_and_fetch(k, v, mask_length=length, mask=mask)
            out = _attend(q, k, v, _HEAD_DIM**-0.5, mask)
        return out.swapaxes(1, 2).reshape(batch, length, -1) @ weights["o"].T


def _attend(q: mx.array, k: mx.array, v: mx.array, scale: float, mask: mx.array | str | None, lengths: Any = None) -> mx.array:
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)


def _norm(x: mx.array) -> mx.array:
    return mx.fast.rms_norm(x, None, 1e-5)


class NearTie(AssertionError):
    """The two best tokens are too close to say which one is right."""


def alone(
    model: ToyModel, prompt: Sequence[int], max_tokens: int, eos: Collection[int] = (), penalty: float = 1.0
) -> list[int]:
    """The greedy answer to `prompt` when no other request is there: no cache, no batch, the whole sequence for every token.

    Raises:
        NearTie: see `NEAR_TIE`; take another prompt.
    """
    answer = model.answers.setdefault((tuple(prompt), penalty), [])
    while len(answer) < max_tokens:
        scores = np.array(model(mx.array([[*prompt, *answer]]), logits_to_keep=1)[0, -1])
        seen = list({*prompt, *answer})
        scores[seen] = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
        second, first = np.sort(scores)[-2:]
        if first - second < NEAR_TIE:
            raise NearTie(f"the answer to {prompt} is not clear at token {len(answer)}: take another prompt")
        answer.append(int(scores.argmax()))
    return until_eos(answer[:max_tokens], eos)


def until_eos(tokens: Sequence[int], eos: Collection[int]) -> list[int]:
    """The tokens before the first end token."""
    end = next((i for i, token in enumerate(tokens) if token in eos), len(tokens))
    return list(tokens[:end])


def make_prompt(length: int, seed: int = 0) -> list[int]:
    """Random bytes as token ids."""
    return np.random.default_rng([seed, length]).integers(0, 256, length).tolist()


class BrokenModelError(Exception):
    """What a `FragileModel` raises."""


_AS_WANTED = ", as this test wants it to: the requests of this call should end with this error, and no others"


class FragileModel:
    """Fails on calls for which `fails(tokens)` is true, before anything is computed or when all layers are done."""

    def __init__(self, model: Any, fails: Callable[[mx.array], bool], late: bool = False) -> None:
        self.model = model
        self.config = model.config
        self.fails = fails
        self.late = late

    def __call__(self, tokens: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        fails = self.fails(tokens)
        if fails and not self.late:
            raise BrokenModelError(f"the model failed at its start{_AS_WANTED}")
        logits = self.model(tokens, *args, **kwargs)
        if fails:
            raise BrokenModelError(f"the model failed at its end{_AS_WANTED}")
        return logits


def is_poisoned(tokens: mx.array) -> bool:
    """Whether a `POISON` token is among those of a call."""
    return bool((tokens == POISON).any().item())


@contextmanager
def refuses(kind: type[BaseException], look_at: str, named: str = "") -> Iterator[None]:
    """The block has to raise an error of this kind, whose message says `named`; else `look_at` tells what to look at.

    What a stub raises passes through, so that the failure names the task to do.
    """
    __tracebackhide__ = True
    try:
        yield
    except NotImplementedError:
        raise
    except kind as error:
        if named not in str(error):
            raise AssertionError(f"{look_at}: the message should name {named}, but it says: {error}") from error
        return
    except Exception as error:
        raise AssertionError(f"{look_at}: expected {kind.__name__}, got {error!r}") from error
    raise AssertionError(f"{look_at}: expected {kind.__name__}, but nothing was raised")


def expect_no_error(*requests: Any) -> None:
    """None of these has ended with an error; otherwise the test fails with that error as its cause, line and all."""
    __tracebackhide__ = True
    _expect_no_stub(requests)
    for request in requests:
        if request.error is not None:
            raise AssertionError(f"request {request.request_id} ended with {request.error!r}") from request.error


def _expect_no_stub(requests: Iterable[Any]) -> None:
    """An engine keeps the exceptions of its requests, also that of a stub, which says what is to be done first.

    The hook `pytest_runtest_call` looks for such errors when a test has failed; this ends a test that would step on and on.
    """
    __tracebackhide__ = True
    for request in requests:
        if isinstance(request.error, NotImplementedError):
            raise request.error


def assert_alone(model: ToyModel, *requests: Any) -> None:
    """Each has ended by itself, with the tokens that it generates alone."""
    __tracebackhide__ = True
    expect_no_error(*requests)
    for request in requests:
        assert request.finish_reason in ("stop", "length"), (
            f"request {request.request_id} ended with {request.finish_reason!r}, but nothing had to end it"
        )
        expected = alone(model, request.prompt, request.max_tokens, request.eos_token_ids)
        if request.generated_tokens != expected:
            raise AssertionError(_describe_difference(model, request, expected))


def _describe_difference(model: ToyModel, request: Any, expected: list[int]) -> str:
    """The first token that is another than alone, and where it comes from."""
    got = request.generated_tokens
    who = f"request {request.request_id} (a prompt of {len(request.prompt)} tokens)"
    first = next((i for i, (token, right) in enumerate(zip(got, expected, strict=False)) if token != right), None)
    if first is None:
        return f"{who} got {len(got)} tokens, alone it gets {len(expected)}: the first {min(len(got), len(expected))} are right"
    sequence = [*request.prompt, *expected[:first]]
    what = f"token {first} of {who} is {_letter(got[first])}, alone it is {_letter(expected[first])}"
    return f"{what}: {explain(model.calls, request.prompt, sequence, model.hidden_states(mx.array([list(sequence)])))}"


def _letter(token: int) -> str:
    return repr(chr(token)) if 32 <= token < 127 else str(token)


def finish_all(scheduler: Any, steps: int = 2000, after_step: Callable[[], None] = lambda: None) -> list[Any]:
    """Step until there is no more work; the requests in the order in which `step` returned them.

    Raises:
        AssertionError: if there is still work after so many steps, so that no test runs for ever.
        NotImplementedError: a stub's, that has ended a request.
    """
    __tracebackhide__ = True
    ended: list[Any] = []

    def step() -> None:
        __tracebackhide__ = True
        ended.extend(scheduler.step())
        after_step()

    _repeat(step, lambda: not scheduler.has_work, steps, scheduler, "has_work is still true", ended)
    return ended


def step_until(scheduler: Any, done: Callable[[], bool], steps: int = 200, what: str = "what this test waits for") -> list[Any]:
    """Step until `done()`, and return those that have ended meanwhile.

    AssertionError if it does not come true: `what`, which says what is waited for, did not happen.
    """
    __tracebackhide__ = True
    ended: list[Any] = []
    _repeat(lambda: ended.extend(scheduler.step()), done, steps, scheduler, f"{what}: not", ended)
    return ended


def _repeat(
    step: Callable[[], None], done: Callable[[], bool], steps: int, scheduler: Any, what: str, ended: list[Any]
) -> None:
    __tracebackhide__ = True
    for _ in range(steps):
        if done():
            return
        step()
        _expect_no_stub(ended)
    if not done():
        failed = [f"request {request.request_id} ended with {request.error!r}" for request in ended if request.error]
        cause = next((request.error for request in ended if request.error), None)
        raise AssertionError("; ".join([f"{what} after {steps} steps", _describe_open(scheduler), *failed])) from cause


def _describe_open(scheduler: Any) -> str:
    """Which requests wait and which run, and how far each has come."""
    everyone = [*scheduler.waiting.values(), *scheduler.running.values()]
    if not everyone:
        return "no request waits or runs"
    more = f", and {len(everyone) - 4} more" if len(everyone) > 4 else ""
    return f"still open: {', '.join(map(_describe_progress, everyone[:4]))}{more}"


def _describe_progress(request: Any) -> str:
    if request.state == "decoding":
        progress = f"decoding, {len(request.generated_tokens)} of {request.max_tokens} tokens"
    elif request.state == "prefilling":
        progress = f"prefilling, {request.offset} of {len(request.prompt)} prompt tokens"
    else:
        progress = request.state
    return f"request {request.request_id} ({progress})"


class RealModel:
    """The embedded model in float32, and mlx-lm's own Llama with the same weights, which says what is right."""

    def __init__(self) -> None:
        self.loaded = load(keep_quantized=False)
        self.tokenizer = self.loaded.tokenizer
        self.peer = mlx_lm_model(self.loaded.config, self.loaded.weights)

    def chat(self, text: str) -> list[int]:
        """The prompt that asks `text`."""
        return self.tokenizer.apply_chat_template([{"role": "user", "content": text}])

    def alone(self, prompt: Sequence[int], max_tokens: int, told: Sequence[int]) -> list[int]:
        """What mlx-lm generates greedily, up to an EOS or the first token that is not the one `told`.

        It is read off one pass over the prompt and what was told, which takes far less time than a pass for each token.
        """
        rows = np.array(self.peer(mx.array([[*prompt, *told]]))[0, len(prompt) - 1 :])
        answer: list[int] = []
        for row, follows in zip(rows[:max_tokens], [*told, None], strict=False):
            second, first = np.sort(row)[-2:]
            if first - second < 10 * NEAR_TIE:  # 30 layers round more often than 2
                raise NearTie(f"the answer is not clear at token {len(answer)}: take another prompt")
            answer.append(int(row.argmax()))
            if answer[-1] != follows:
                break
        return until_eos(answer, self.tokenizer.eos_token_ids)
