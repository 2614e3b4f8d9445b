"""The client side of `pdm run load-test`: locust runs this file, in a process of its own, against a real server.

Everything is written down as it came, a line of JSON per request; `served_load` interprets it. This file imports nothing of
ours: locust makes every call that waits cooperative, and an engine's threads would not survive that.

With a rate it is an open loop: requests come when they are due, even if others still wait. Without one each of locust's users
asks again as soon as it has its answer.
"""

import itertools
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import gevent
from locust import HttpUser, constant, events, task

PLAN: dict[str, Any] = json.loads(Path(os.environ["TINY_LLM_LOAD_PLAN"]).read_text(encoding="utf-8"))
RECORDS = open(PLAN["records"], "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
RANDOM = random.Random(PLAN["seed"])
NUMBERS = itertools.count()
PATIENCE = 120.0
"""Seconds without a byte, after which a server has hung."""


def write(record: dict[str, Any]) -> None:
    RECORDS.write(json.dumps(record) + "\n")


@events.test_start.add_listener
def note_the_beginning(**_: Any) -> None:
    write({"began": time.monotonic()})


@events.quit.add_listener
def close_records(**_: Any) -> None:
    RECORDS.close()


class Client(HttpUser):
    """A user that asks again and again or, with a rate, one that stands for all: each of its requests has a greenlet."""

    wait_time = constant(0)

    def on_start(self) -> None:
        self.due = time.monotonic()
        self.open: list[Any] = []

    def on_stop(self) -> None:
        gevent.joinall(self.open)

    @task
    def arrive(self) -> None:
        if PLAN["rate"] is None:
            self.ask()
            return
        self.due += RANDOM.expovariate(PLAN["rate"])
        gevent.sleep(max(0.0, self.due - time.monotonic()))
        self.open = [one for one in self.open if not one.dead]
        self.open.append(gevent.spawn(self.ask))

    def ask(self) -> None:
        """Send the next request of the list, on a connection of its own, and write down every event of its stream."""
        number = next(NUMBERS)
        item = number % len(PLAN["bodies"])
        body = {**PLAN["bodies"][item], "stream": True, "stream_options": {"include_usage": True}}
        record: dict[str, Any] = {"item": item, "sent": time.monotonic(), "status": 0, "lines": [], "error": None}
        with self.client.post(
            "/v1/completions",
            json=body,
            headers={"connection": "close"},
            stream=True,
            catch_response=True,
            timeout=PATIENCE,
            name=f"/v1/completions, {PLAN['name']}",
        ) as response:
            record["status"] = response.status_code
            try:
                for line in response.iter_lines() if response.status_code else []:
                    if line:
                        record["lines"].append([time.monotonic(), line.decode()])
            except Exception as error:  # anything that breaks a stream is a finding
                record["error"] = repr(error)
            record["ended"] = time.monotonic()
            response.request_meta["response_time"] = 1000 * (record["ended"] - record["sent"])
            if not response.status_code:
                record["error"] = repr(getattr(response, "error", None))
            if record["error"] or response.status_code not in (200, 429, 503):
                response.failure(record["error"] or f"status {response.status_code}")
            else:
                response.success()
        write(record)
