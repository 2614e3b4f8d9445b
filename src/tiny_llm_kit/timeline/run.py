"""What a timeline shows: the lives of a run's requests, and what its steps held. Times are seconds from the run's start."""

from dataclasses import dataclass, field


@dataclass
class Chunk:
    """A piece of a prompt, from the moment at which the device can begin with it until it is computed."""

    begin: float
    end: float
    tokens: int


@dataclass
class Stay:
    """A request in its lane. One that is preempted leaves its lane, and has another stay when it comes back.

    begin: when the device can begin with it.
    end: None for one that was still there when the recording ended.
    """

    lane: int
    begin: float
    end: float | None = None
    chunks: list[Chunk] = field(default_factory=list)
    preempted: bool = False


@dataclass
class Life:
    """A request.

    Args:
        number: counted from 1 by arrival.
        name: what pictures call it.
        prompt_tokens: its prompt's length.
        arrived: when it was submitted.
        admitted: when it was admitted first; None if it never was.
        stays: its times in a lane, in order; none if it never started.
        first_token, ended: when; None for what did not happen.
        outcome: "finished", "cancelled", "failed", or "" for one that had not ended when the recording did.
        generated: tokens of its answer, as far as they are known.
        tokens: when each of them came back, as far as it was recorded.
    """

    number: int
    name: str
    prompt_tokens: int
    arrived: float
    admitted: float | None = None
    stays: list[Stay] = field(default_factory=list)
    first_token: float | None = None
    ended: float | None = None
    outcome: str = ""
    generated: int = 0
    tokens: list[float] = field(default_factory=list)

    @property
    def waits(self) -> list[tuple[float, float | None]]:
        """From when until when it waited: for its first stay, and after each preemption. None: to the end of the recording."""
        begins = [self.arrived, *(stay.end for stay in self.stays if stay.preempted and stay.end is not None)]
        ends = [*(stay.begin for stay in self.stays), self.ended]
        return [(begin, ends[i]) for i, begin in enumerate(begins) if i < len(ends)]

    @property
    def waited(self) -> float | None:
        """Time from arrival to admission."""
        return None if self.admitted is None else self.admitted - self.arrived

    @property
    def ttft(self) -> float | None:
        """Time to first token."""
        return None if self.first_token is None else self.first_token - self.arrived

    @property
    def tpot(self) -> float | None:
        """Time per output token, after the first one; None with fewer than two tokens."""
        if self.first_token is None or self.ended is None or self.generated < 2:
            return None
        return (self.ended - self.first_token) / (self.generated - 1)


@dataclass
class Sample:
    """What a step, or a few steps in a row, held at most. `blocks` is None where memory is not in blocks."""

    time: float
    queue: int
    active: int
    kv_tokens: int
    blocks: int | None = None

    def merged(self, later: "Sample") -> "Sample":
        """Both in one: the time of the first, and the larger of each count."""
        blocks = None if self.blocks is None or later.blocks is None else max(self.blocks, later.blocks)
        return Sample(
            self.time,
            max(self.queue, later.queue),
            max(self.active, later.active),
            max(self.kv_tokens, later.kv_tokens),
            blocks,
        )


@dataclass
class Run:
    """A run, as far as it was recorded.

    Args:
        name: what it is called where runs are drawn one below the other.
        lanes: rows of the picture: the slots, or as many requests as ran at a time.
        lives: by arrival.
        samples: in order of time.
        duration: to the end of the recording.
        unit: of the times, "s" but where a clock counts something else.
        slots: what `lanes` are, if they are slots.
        left_out: requests that came when the recording was full.
        note: what else is to be said of it.
    """

    name: str
    lanes: int
    lives: list[Life]
    samples: list[Sample]
    duration: float
    unit: str = "s"
    slots: int | None = None
    left_out: int = 0
    note: str = ""

    @property
    def held(self) -> float:
        """Time that requests spent in lanes, all together."""
        return sum((self.duration if stay.end is None else stay.end) - stay.begin for life in self.lives for stay in life.stays)

    @property
    def utilization(self) -> float | None:
        """The share of the slots' time in which a request was there; None without slots, or where requests were left out."""
        if not self.slots or not self.duration or self.left_out:
            return None
        return self.held / (self.slots * self.duration)
