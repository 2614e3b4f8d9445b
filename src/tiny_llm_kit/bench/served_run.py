"""A load test of a server, from the requests alone to a stage of load. It says how far it is, and keeps what it found."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import click

from tiny_llm_kit.bench.served_load import Answer, Sample, Stage, bodies, read_records
from tiny_llm_kit.bench.served_process import Server, ask_with_locust


class Told(Protocol):
    """The part of a progress bar that is used here."""

    def reach(self, done: int) -> None: ...


@dataclass
class LoadRun:
    """server: that is asked. folder: for what locust reads and writes. seed: of requests and arrivals.

    warm_up: seconds before each measurement. asked, alone: the list of requests, and what each is answered when there is no
    other. left_out: how many were not clear enough to be compared, see `served_load.is_clear`.
    """

    server: Server
    folder: Path
    seed: int
    warm_up: int
    asked: list[dict[str, Any]] = field(default_factory=list)
    alone: list[Answer] = field(default_factory=list)
    left_out: int = 0

    def ask_alone(self, requests: int, bar: Told) -> None:
        """Make the list, and ask for one after another.

        Raises:
            ClickException: if none can be compared.
        """
        for done, body in enumerate(bodies(requests, self.seed, self.server.model), start=1):
            answer = self.server.alone(body)
            if answer is None:
                self.left_out += 1
            else:
                self.asked.append(body)
                self.alone.append(answer)
            bar.reach(done)
        if not self.asked:
            raise click.ClickException(f"all {requests} answers have tokens that another is as good as: give more --requests")

    def stage(self, name: str, rate: float | None, seconds: int, clients: int, bar: Told) -> Stage:
        """Load the server for the warm-up and this many seconds more, and wait until everything is answered.

        rate: requests per second in an open loop; None for a closed loop of this many clients.
        Raises:
            ClickException: if locust or the server fails, or locust has counted other requests than it has written down.
        """
        samples: list[Sample] = []
        plan = {"name": name, "rate": rate, "seed": self.seed, "bodies": self.asked}
        look = _looking(samples, bar)
        text, counted = ask_with_locust(self.server, plan, clients, self.warm_up + seconds, self.folder, look)
        began, seen = read_records(text)
        if counted != len(seen):
            raise click.ClickException(f"locust counted {counted} requests, and wrote {len(seen)} down: one of the two is lost")
        return Stage(
            name=name,
            offered=rate,
            began=began,
            warm_up=self.warm_up,
            seconds=seconds,
            seen=seen,
            outcomes=[one.outcome(self.alone) for one in seen],
            samples=[one for one in samples if one.time >= began],
            counted=counted,
            left=self.server.until_empty(),
            healthy=self.server.healthy,
        )


def _looking(samples: list[Sample], bar: Told) -> Callable[[Sample], None]:
    def look(sample: Sample) -> None:
        samples.append(sample)
        bar.reach(int(sample.time - samples[0].time))

    return look
