"""What each iteration computed and how long it took, read from the event log: what a cost model is fitted to.

The log says which chunks were launched and how many requests took part in an iteration. Tokens are logged when they come back,
so the positions of the decoding requests follow from their prompts and from the iterations since.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..event_log import ENDS, BatchState, Event, EventKind
from .cost_model import Call


def decode_call(rows: int, longest: int, block_size: int = 1) -> Call:
    """One token per row. Each reads as many keys as the longest row has, its new one included, in whole blocks."""
    keys = rows * _whole_blocks(longest, block_size)
    return Call(rows, rows, keys, keys)


def chunk_call(start: int, end: int, last: bool, block_size: int = 1) -> Call:
    """The tokens `start` … `end` − 1 of a prompt. A mask hides later keys, but they are multiplied all the same."""
    keys = _whole_blocks(end, block_size)
    return Call(end - start, int(last), keys, (end - start) * keys)


def mixed_call(calls: Sequence[Call]) -> Call:
    """All of these in one call of the model."""
    return Call(*map(sum, zip(*calls, strict=True)))


def _whole_blocks(tokens: int, block_size: int) -> int:
    return -(-tokens // block_size) * block_size


@dataclass(eq=False)
class _Sequence:
    """A request, as far as the log describes it.

    Args:
        prompt: its prompt's length.
        computed: tokens whose keys and values exist.
        answered: tokens that have come back.
        ended: whether it has ended, and `late`, whether by a token that was not expected to end it (EOS): then the next one was
            on its way.
    """

    prompt: int
    computed: int = 0
    answered: int = 0
    ended: bool = False
    late: bool = False


class StepWork:
    """Reads the log of a slot engine or a paged one, and keeps the calls of every iteration with the seconds they took, as
    `fit_cost` takes them.

    An iteration launches its calls, and ends when the tokens of the one before have come back. If launching waits, its calls
    have been computed by its own end; otherwise by the end of the next one. In the latter case nothing waits for calls that ask
    for no token: they are added to those of the next iteration.

    Args:
        block_size: of the paged engine, which makes one call for everything; None for the slot engine, which makes one for all
            decodes and one per chunk.
        launch_waits: see `CostModel`.
    """

    def __init__(self, block_size: int | None = None, launch_waits: bool = False) -> None:
        self.block_size = block_size
        self.launch_waits = launch_waits
        self.iterations: list[tuple[list[Call], float]] = []
        self._sequences: dict[int, _Sequence] = {}
        self._decoding: list[_Sequence] = []
        self._launched: list[Call] = []  # and are not known to be done
        self._awaited = False
        self._since = 0.0

    def read(self, state: BatchState) -> None:
        """Take in one iteration."""
        calls = self._calls(state)
        if self.launch_waits:
            self._done_at_its_end(state, calls)
        else:
            self._done_at_the_next(state, calls)

    def _done_at_its_end(self, state: BatchState, calls: list[Call]) -> None:
        if not self._launched:  # then, unless requests were there already, there was nothing to do until one was admitted
            self._since = min((e.time for e in state.events if e.kind is EventKind.ADMITTED), default=self._since)
        if calls:
            self.iterations.append((calls, state.time - self._since))
        self._launched, self._since = calls, state.time

    def _done_at_the_next(self, state: BatchState, calls: list[Call]) -> None:
        if self._awaited:
            self.iterations.append((self._launched, state.time - self._since))
        if self._awaited or not self._launched or not calls:
            self._launched, self._since = [], state.time
        self._launched = self._launched + calls
        self._awaited = any(call.outputs for call in calls)

    def _calls(self, state: BatchState) -> list[Call]:
        """What the iteration launched. Among its events, chunks were launched, and tokens came back after that."""
        chunks: list[Call] = []
        joining: list[_Sequence] = []
        for event in state.events:
            if event.kind is EventKind.ARRIVED:
                self._sequences[event.request_id] = _Sequence(event.tokens)
            elif sequence := self._sequences.get(event.request_id):
                if event.kind is EventKind.PREFILL_CHUNK:
                    chunks.append(self._chunk(sequence, event))
                    if chunks[-1].outputs:
                        joining.append(sequence)
                elif event.kind is EventKind.PREEMPTED:
                    self._decoding = [other for other in self._decoding if other is not sequence]
                elif event.kind in (EventKind.FIRST_TOKEN, EventKind.TOKEN):
                    sequence.answered += 1
                elif event.kind in ENDS:
                    del self._sequences[event.request_id]
                    sequence.ended, sequence.late = True, sequence.answered > event.tokens
        calls = [*self._decodes(state.active_requests - len(chunks)), *chunks]
        self._decoding = [sequence for sequence in [*self._decoding, *joining] if not sequence.ended]
        return [mixed_call(calls)] if self.block_size and calls else calls

    def _chunk(self, sequence: _Sequence, event: Event) -> Call:
        sequence.computed = event.position
        last = event.position == sequence.prompt + sequence.answered
        return chunk_call(event.position - event.tokens, event.position, last, self.block_size or 1)

    def _decodes(self, count: int) -> list[Call]:
        """The call for `count` decodes: the requests that go on, and as many as needed of those that have ended since, the late
        ones first."""
        rows = sorted(self._decoding, key=lambda sequence: (sequence.ended, not sequence.late))[:count]
        for sequence in rows:
            sequence.computed += 1
        longest = max((sequence.computed for sequence in rows), default=0)
        return [decode_call(len(rows), longest, self.block_size or 1)] if rows else []
