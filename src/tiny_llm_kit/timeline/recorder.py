"""The reader of an event log that records a timeline. The log is all that it knows of a run."""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

from tiny_llm_kit.timeline.living import Living
from tiny_llm_kit.timeline.run import Chunk, Life, Run, Sample, Stay

LAUNCHES = ("admitted", "prefill chunk")
ENDS = ("finished", "cancelled", "failed")
MOST_REQUESTS = 20_000
MOST_TOKENS = 100_000
MOST_SAMPLES = 4_096
"""An even number, since they are merged in pairs."""


class Recorder:
    """Records a run for a timeline. Put `read` among the readers of the engine's log, before the run.

    A lane is a row of the picture: each request takes the lowest one that is free when it is admitted. An engine that launches
    ahead admits a request before it has read the last token of the one whose place it takes: it begins when that one ends.
    Of memory that requests share through a prefix cache, the log tells only how much of it each has found there. So tokens and
    blocks count for the request that computed them.

    Memory is bounded: the first `most` requests are kept, steps until the last of them has ended, and the times of the first
    `MOST_TOKENS` tokens. When steps are many, a few in a row make one sample.

    Args:
        name: what the run is called.
        slots: how many lanes there are; None: as many as are needed.
        block_size: tokens of a block, if memory is in blocks.
        names: of the requests, by arrival. Others are called by their number.
        unit: what the engine's clock counts.
        launch_waits: whether launching an iteration returns only when it is computed, as on MLX's CPU backend. Then prompts are
            computed in the iteration that launches them, and otherwise while the next one waits for their tokens.
        most: requests to be kept.
    """

    def __init__(
        self,
        name: str,
        slots: int | None = None,
        *,
        block_size: int | None = None,
        names: Sequence[str] = (),
        unit: str = "s",
        launch_waits: bool = False,
        most: int = MOST_REQUESTS,
    ) -> None:
        self.name = name
        self.slots = slots
        self.block_size = block_size
        self.names = names
        self.unit = unit
        self.launch_waits = launch_waits
        self.most = most
        self.left_out = 0
        self._lives: list[Life] = []
        self._living: dict[int, Living] = {}
        self._kept_living = 0
        self._lanes = 0
        self._free: list[int] = []
        self._left: dict[int, Stay] = {}  # the last stay in each lane
        self._ahead: bool | None = None  # whether tokens come back an iteration after their launch; None: not seen yet
        self._busy = False  # whether the last iteration has left the device with work
        self._fresh: list[tuple[Stay, Chunk, float]] = []  # of the last iteration, with when the device could begin
        self._unplaced: list[tuple[Stay, Chunk, float, float]] = []  # the same, and the end of the iteration after theirs
        self._running: dict[int, Living] = {}  # by lane
        self._gone: list[Living] = []  # who left one in this iteration
        self._samples: list[Sample] = []
        self._stride = 1
        self._merging = 0
        self._tokens = 0
        self._opened = 0.0  # when this iteration began, as far as its events tell
        self._ready = 0.0  # when the device could begin with what it launches, if it launches ahead
        self._start: float | None = None
        self._last = 0.0

    def read(self, state: Any) -> None:
        """Take in one iteration, a `BatchState` of the log."""
        if len(self._lives) >= self.most and not self._kept_living:
            self._living.clear()
            self.left_out += sum(event.kind.value == "arrived" for event in state.events)
            return
        if self._start is None:
            self._start = min((event.time for event in state.events), default=state.time)
        now = state.time - self._start
        self._unplaced += [(*fresh, now) for fresh in self._fresh]
        self._fresh, self._gone = [], []
        launches = [self._since(event) for event in state.events if event.kind.value in LAUNCHES]
        self._opened = min(launches, default=self._last)
        self._ready = now if self._busy else min(launches, default=now)
        if self._ahead is False and self._opened > self._last:  # it was idle
            waiting = sum(living.stay is None for living in self._living.values())
            self._keep(Sample(self._last, waiting, 0, 0, self.block_size and 0))
        left = self._free_lanes(state.events)
        for place, event in enumerate(state.events):
            self._take(event, now, may_enter=place > left.get(event.request_id, -1))
        self._place_chunks()
        self._sample(state)
        self._last, self._busy = now, state.active_requests > 0

    def run(self) -> Run:
        """What has been recorded."""
        lanes = max(self._lanes, self.slots or 0)
        return Run(self.name, lanes, self._lives, self._samples, self._last, self.unit, self.slots, self.left_out)

    def _free_lanes(self, events: Sequence[Any]) -> dict[int, int]:
        """Lanes fall free before they are given away, in whatever order the iteration logged it.

        Returns:
            By request, which event it left with.
        """
        left = {}
        for place, event in enumerate(events):
            kind, living = event.kind.value, self._living.get(event.request_id)
            if living and living.stay and kind in (*ENDS, "preempted"):
                self._leave(living, self._since(event), preempted=kind == "preempted")
                left[event.request_id] = place
        return left

    def _take(self, event: Any, now: float, may_enter: bool) -> None:
        kind, time = event.kind.value, self._since(event)
        if kind == "arrived":
            self._arrive(event, time)
        living = self._living.get(event.request_id)
        if living is None:  # it came before the recording began
            return
        life = living.life
        if kind in LAUNCHES and living.stay is None and may_enter:
            self._enter(living, time)
        if kind == "prefill chunk":
            if life.stays:
                self._add_chunk(living, life.stays[-1], event, now)
            living.computed, living.chunk_step = event.position, event.step
        elif kind in ("first token", "token"):
            life.generated += 1
            if self._tokens < MOST_TOKENS and living.kept:
                life.tokens.append(time)
                self._tokens += 1
            if kind == "first token":
                life.first_token = time
                if self._ahead is None:
                    self._ahead = event.step > living.chunk_step
        elif kind in ENDS:
            life.ended, life.outcome, life.generated = time, kind, event.tokens
            if living.stay is not None:  # it came and went within this iteration
                self._leave(living, time)
            self._kept_living -= living.kept
            del self._living[event.request_id]

    def _arrive(self, event: Any, time: float) -> None:
        number = len(self._lives) + self.left_out + 1
        name = self.names[number - 1] if number <= len(self.names) else str(number)
        kept = len(self._lives) < self.most
        living = Living(Life(number, name, event.tokens, time), kept)
        self._living[event.request_id] = living
        if kept:
            self._lives.append(living.life)
            self._kept_living += 1
        else:
            self.left_out += 1

    def _enter(self, living: Living, time: float) -> None:
        if not self._free:
            self._free.append(self._lanes)
            self._lanes += 1
        lane = heappop(self._free)
        self._running[lane] = living
        living.stay = Stay(lane, time)
        last = self._left.get(lane)
        if last is not None and last.end is not None and last.end > time:  # it has left in this iteration
            if self.launch_waits:  # and had been computed when the iteration began
                last.end = max(time, last.begin)
            else:
                living.stay.begin = last.end
        living.computed = living.found = 0
        living.life.stays.append(living.stay)
        if living.life.admitted is None:
            living.life.admitted = time

    def _leave(self, living: Living, time: float, preempted: bool = False) -> None:
        stay, living.stay = living.stay, None
        assert stay is not None
        self._gone.append(self._running.pop(stay.lane))
        stay.end, stay.preempted = max(time, stay.begin), preempted
        self._left[stay.lane] = stay
        heappush(self._free, stay.lane)

    def _add_chunk(self, living: Living, stay: Stay, event: Any, now: float) -> None:
        """Chunks of one iteration are one: the log does not say when the device was done with each."""
        if stay.chunks and living.chunk_step == event.step:
            stay.chunks[-1].tokens += event.tokens
        else:
            if not stay.chunks:
                living.found = event.position - event.tokens
            chunk = Chunk(self._opened, now, event.tokens)
            stay.chunks.append(chunk)
            self._fresh.append((stay, chunk, self._ready))

    def _place_chunks(self) -> None:
        """What was launched in one iteration and is read in the next is computed between the ends of the two, if before it the
        device had the launch of another to compute."""
        if self._ahead is None:
            return
        for stay, chunk, ready, after in self._unplaced if self._ahead and not self.launch_waits else ():
            chunk.begin, chunk.end = ready, after
            if chunk is stay.chunks[0]:  # until then the device had others to serve
                stay.begin = max(stay.begin, chunk.begin if stay.end is None else min(chunk.begin, stay.end))
        self._unplaced = []

    def _sample(self, state: Any) -> None:
        running = list(self._running.values())
        if self._ahead is False:  # who ended in this iteration was served in it
            running += self._gone
        tokens = sum(living.tokens(state.step) for living in running)
        blocks = self.block_size and sum(living.blocks(state.step, self.block_size or 1) for living in running)
        time = self._opened if self._ahead is False or self.launch_waits else self._ready
        self._keep(Sample(time, state.queue_size, state.active_requests, tokens, blocks))

    def _keep(self, sample: Sample) -> None:
        if self._merging:
            self._samples[-1] = self._samples[-1].merged(sample)
        else:
            self._samples.append(sample)
        self._merging = (self._merging + 1) % self._stride
        if len(self._samples) >= MOST_SAMPLES and not self._merging:
            pairs = zip(self._samples[::2], self._samples[1::2], strict=True)
            self._samples = [first.merged(second) for first, second in pairs]
            self._stride *= 2

    def _since(self, event: Any) -> float:
        return float(event.time - (self._start or 0.0))
