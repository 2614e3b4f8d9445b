"""How the tests of both engines compare an event log with what can be seen from outside.

Right schedules differ, so nothing here says in which step something has to happen: only that the log tells of each step what
happened in it.
"""

from typing import Any

from support import finish_all

TOKENS = ("first token", "token")
ENDS = {"cancelled": "cancelled", "error": "failed"}
"""How an end is logged, by the request's `finish_reason`; every other one is "finished"."""


class LoggedRun:
    """Steps an engine whose clock ticks once per step, and after each step looks at what a reader of the log was told.

    Args:
        make_engine: called with `clock`.
        one_left_decodes: whether the last token of a prompt, if it stands alone, is launched among the decodes, not as a chunk.
    """

    def __init__(self, make_engine: Any, one_left_decodes: bool = False) -> None:
        self.one_left_decodes = one_left_decodes
        self.now = 0.0
        self.engine = make_engine(clock=lambda: self.now)
        self.states: list[Any] = []
        self.engine.event_log.readers.append(self.states.append)
        self.requests: list[Any] = []
        self.told: dict[int, list[Any]] = {}

    @property
    def has_work(self) -> bool:
        return bool(self.engine.has_work)

    def submit(self, *requests: Any) -> Any:
        for request in requests:
            self.requests.append(self.engine.submit(request))
        return requests[0]

    def step(self) -> list[Any]:
        __tracebackhide__ = True
        self.now += 1.0
        steps = len(self.states)
        before = {r.request_id: (r.offset, len(r.generated_tokens), r.finish_reason is None) for r in self.requests}
        ended: list[Any] = self.engine.step()
        assert len(self.states) == steps + 1, (
            f"step {steps}: each step closes one iteration, so that readers of the log are given a state; they were given"
            f" {len(self.states) - steps}"
        )
        self._note(self.states[-1])
        self._compare_step(self.states[-1], before)
        return ended

    def finish(self) -> None:
        __tracebackhide__ = True
        finish_all(self)
        for request in self.requests:
            self._compare_life(request)

    def of(self, request: Any, *kinds: str) -> list[Any]:
        """What was told of a request; only these kinds, if any are given."""
        return [event for event in self.told.get(request.request_id, []) if not kinds or event.kind.value in kinds]

    def _note(self, state: Any) -> None:
        number = len(self.states) - 1
        assert state.step == number, f"iterations are numbered from 0: this is number {number}, and its state says {state.step}"
        for event in state.events:
            assert event.step == number, f"{event} is told with iteration {number}"
            self.told.setdefault(event.request_id, []).append(event)
        times = [event.time for event in state.events]
        assert [*times, state.time] == sorted([*times, state.time]), "events are in the order in which they happened"

    def _compare_step(self, state: Any, before: dict[int, tuple[int, int, bool]]) -> None:
        __tracebackhide__ = True
        kept = 0
        for request in self.requests:
            had_offset, had_tokens, was_open = before.get(request.request_id, (0, 0, True))
            here = [event for event in state.events if event.request_id == request.request_id]
            came = [event for event in here if event.kind.value in TOKENS]
            kept_here = len(request.generated_tokens) - had_tokens
            kept += kept_here
            who = f"step {state.step}, request {request.request_id}"
            by_eos = was_open and request.finish_reason == "stop" and len(came) == kept_here + 1
            assert len(came) == kept_here or by_eos, (
                f"{who}: {kept_here} tokens came back for it and were kept, and the log tells of {len(came)}: one event each,"
                " in the step in which a token is read, also for an EOS, and none for what came after the end"
            )
            if request.error is None and all(event.kind.value != "preempted" for event in here):
                self._compare_chunks(who, request, had_offset, [e for e in here if e.kind.value == "prefill chunk"])
            if not was_open:
                assert not came, f"{who}: it had ended, and nothing that comes later is logged"
        assert state.new_tokens == kept, (
            f"step {state.step}: new_tokens are those that came back and were kept, here {kept}, and the state says"
            f" {state.new_tokens}"
        )

    def _compare_chunks(self, who: str, request: Any, had: int, chunks: list[Any]) -> None:
        """`offset` counts the tokens that were launched, so it tells what a chunk must say."""
        known = len(request.prompt)
        if had < known and request.offset > had + self.one_left_decodes:
            assert chunks, f"{who}: tokens of its prompt were launched in this step, and the log tells of no chunk"
        for chunk in chunks:
            assert 1 <= chunk.tokens <= chunk.position, f"{who}: {chunk} has no tokens, or more than are computed after it"
        if chunks:
            last = chunks[-1].position
            assert last == min(request.offset, max(known, last)), (
                f"{who}: after the chunk {request.offset} of its tokens are computed, and its position says {last}"
            )

    def _compare_life(self, request: Any) -> None:
        """All that was told of a request that has ended."""
        __tracebackhide__ = True
        events = self.of(request)
        kinds, who = [event.kind.value for event in events], f"request {request.request_id}"
        end = ENDS.get(request.finish_reason, "finished")
        assert (kinds[0], kinds[-1]) == ("arrived", end), (
            f"{who} ended with {request.finish_reason!r}: its events go from 'arrived' to {end!r}, and they are {kinds}"
        )
        assert events[0].tokens == len(request.prompt), f"{who}: its arrival tells the length of its prompt"
        assert events[-1].tokens == len(request.generated_tokens), f"{who}: its end tells the tokens of its answer"
        for kind in ("arrived", "admitted", "first token", end):
            assert kinds.count(kind) <= 1, f"{who}: {kind!r} happens once, and the log has {kinds}"
        came = [kind for kind in kinds if kind in TOKENS]
        assert came == [TOKENS[0], *[TOKENS[1]] * len(came)][: len(came)], (
            f"{who}: of its tokens, the first one is logged as 'first token', and all others as 'token'; the log has {came}"
        )
        work = [kind for kind in kinds if kind not in ("arrived", end)]
        assert not work or work[0] == "admitted", (
            f"{who}: before anything is computed for it, it is admitted; the log has {kinds}"
        )
        if came:
            assert kinds.index("prefill chunk") < kinds.index("first token"), f"{who}: its prompt is computed before it speaks"


def chunks_of(run: LoggedRun, request: Any) -> list[tuple[int, int]]:
    """Tokens and position of each of its chunks."""
    return [(event.tokens, event.position) for event in run.of(request, "prefill chunk")]


def assert_cut_in_order(run: LoggedRun, request: Any, most: int) -> None:
    """The chunks of a prompt that is read once: none is longer than `most`, each begins where the one before it ended."""
    __tracebackhide__ = True
    chunks = chunks_of(run, request)
    total = 0
    for tokens, position in chunks:
        total += tokens
        assert (position, tokens <= most) == (total, True), (
            f"request {request.request_id}: chunks of at most {most} tokens, each with its length and with how many tokens are"
            f" computed after it; (tokens, position) were {chunks}"
        )
    assert len(request.prompt) - total in (0, run.one_left_decodes), (
        f"request {request.request_id}: its {len(request.prompt)} prompt tokens are those of its chunks, which were {chunks}"
    )


def assert_end_is_told(run: LoggedRun, request: Any, end: str) -> None:
    """For a request that ended like this, the log has all tokens, an EOS too, and then that it has finished."""
    tokens = len(run.of(request, "first token", "token"))
    assert tokens == len(request.generated_tokens) + end.startswith("EOS"), (
        f"it ended by {end}, with {len(request.generated_tokens)} tokens, and {tokens} events tell of them: an EOS has one, too"
    )
    assert run.of(request)[-1].kind.value == "finished", f"an end by {end} is a finish"
