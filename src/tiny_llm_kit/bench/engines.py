"""The engines that are compared: an answer package's schedules, and mlx-lm's BatchGenerator.

All get the same weights, dtype, BLAS and token ids, decode greedily, and never stop before a request's `max_tokens`.
"""

import time
from collections.abc import Callable, Sequence
from statistics import fmean
from types import ModuleType
from typing import Any

import mlx.nn as nn

from tiny_llm_kit.bench.run import Served
from tiny_llm_kit.bench.serving import ServingOptions, build, record_schedule
from tiny_llm_kit.models.tokenizer import Tokenizer
from tiny_llm_kit.timeline import Recorder
from tiny_llm_kit.workloads.items import WorkItem, needed_seq_len
from tiny_llm_kit.workloads.paged import PagedSizes
from tiny_llm_kit.workloads.requests import make_requests


class RequestFailed(RuntimeError):
    """An engine did not serve the workload: its time is not a measurement."""


class AnswerEngines:
    """The engines of an answer package, over one model. RequestFailed if one of them does not serve every request.

    sizes, kernels: of the paged engine, see `paged_engine`.
    tokenizer: ends the answers of the scheduled engines at its end tokens; without one, they go on to their `max_tokens`.
    """

    def __init__(
        self,
        answer: ModuleType,
        model: Any,
        items: Sequence[WorkItem],
        prefill_step: int,
        sizes: PagedSizes | None = None,
        kernels: str | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self.answer = answer
        self.model = model
        self.items = items
        self.prefill_step = prefill_step
        self.sizes = sizes or PagedSizes()
        self.kernels = kernels
        self.tokenizer = tokenizer

    def sequential(self, batch_size: int = 1) -> Served:
        """One request after another."""
        requests = self._requests()
        return _served(
            requests, self.answer.run_sequential(self.model, requests, needed_seq_len(self.items), self.prefill_step)
        )

    def static(self, batch_size: int) -> Served:
        """Fixed groups."""
        requests = self._requests()
        return _served(requests, self.answer.run_static(self.model, requests, batch_size, self.prefill_step))

    def continuous(self, batch_size: int) -> Served:
        """Requests join and leave."""
        return self.scheduled("continuous", batch_size)

    def paged(self, batch_size: int) -> Served:
        """Requests share blocks: as many of these as `batch_size` slots would hold, unless `sizes` says otherwise."""
        return self.scheduled("paged", batch_size)

    def recorded(self, schedule: str, batch_size: int, name: str) -> Recorder:
        """Serve once more, for a timeline of this name and not for its figures."""
        options = self.options(batch_size)
        rows = "one at a time" if schedule == "sequential" else f"{batch_size} slots"  # or the memory of this many
        recorder = record_schedule(f"{name}: {schedule}, {rows}", schedule, options)
        self.scheduled(schedule, batch_size, [recorder.read])
        return recorder

    def scheduled(self, schedule: str, batch_size: int, readers: Sequence[Callable[[Any], None]] = ()) -> Served:
        """One of `serving.SCHEDULES`, with all requests there at the start. `readers` are added to those of its log."""
        engine = build(self.answer, self.model, schedule, self.items, self.options(batch_size))
        engine.event_log.readers += readers
        return _run(engine, make_requests(self.answer, self.items, self.tokenizer, paged=schedule == "paged"))

    def options(self, batch_size: int) -> ServingOptions:
        return ServingOptions(batch_size, self.prefill_step, sizes=self.sizes, kernels=self.kernels)

    def _requests(self) -> list[Any]:
        return make_requests(self.answer, self.items)


def _run(engine: Any, requests: Sequence[Any]) -> Served:
    """Serve all, and watch how many are being served at a time."""
    for request in requests:
        engine.submit(request)
    crowded, most = [], 0
    while engine.has_work:
        engine.step()
        in_flight = sum(not request.all_launched for request in engine.running.values())
        most = max(most, in_flight)
        if engine.waiting:
            crowded.append(in_flight)
    return _served(requests, engine.metrics, fmean(crowded) if crowded else float(most), hasattr(engine, "drafter"))


def _served(requests: Sequence[Any], metrics: Any, in_flight: float | None = None, speculates: bool = False) -> Served:
    for number, request in enumerate(requests, start=1):
        if request.finish_reason == "error":
            raise RequestFailed(f"request {number} of {len(requests)} failed: {request.error!r}") from request.error
    return Served(
        tokens=[request.generated_tokens for request in requests],
        ttft=metrics.values("ttft"),
        tpot=metrics.values("tpot"),
        steps=metrics.steps,
        utilization=metrics.slot_utilization,
        crowded=metrics.slot_utilization_while_waiting,
        in_flight=in_flight,
        drafted=metrics.spec_decode_num_draft_tokens if speculates else None,
        accepted=metrics.spec_decode_num_accepted_tokens if speculates else None,
    )


class MlxLmEngine:
    """mlx-lm's own continuous batching, over its own model; see `peer.mlx_lm_model`."""

    def __init__(self, model: nn.Module, items: Sequence[WorkItem]) -> None:
        self.model = model
        self.items = items

    def serve(self, batch_size: int) -> Served:
        """Serve the workload with `batch_size` rows in prefill and in decode; other settings are mlx-lm's defaults."""
        from mlx_lm.generate import BatchGenerator

        started = time.perf_counter()
        generator = BatchGenerator(self.model, completion_batch_size=batch_size, prefill_batch_size=batch_size)
        ids = generator.insert([list(item.prompt) for item in self.items], [item.max_tokens for item in self.items])
        tokens: dict[int, list[int]] = {i: [] for i in ids}
        first: dict[int, float] = {}
        last: dict[int, float] = {}
        rows, crowded = [], []
        while len(last) < len(ids):
            responses = generator.next_generated()
            now = time.perf_counter()
            rows.append(len(responses))
            if len(first) < len(ids):
                crowded.append(len(responses))
            for response in responses:
                tokens[response.uid].append(response.token)
                first.setdefault(response.uid, now)
                if response.finish_reason is not None:
                    last[response.uid] = now
        generator.close()
        return Served(
            tokens=[tokens[i] for i in ids],
            ttft=[first[i] - started for i in ids],
            tpot=[(last[i] - first[i]) / (len(tokens[i]) - 1) for i in ids if len(tokens[i]) > 1],
            steps=len(rows),
            utilization=sum(rows) / len(rows) / batch_size,
            in_flight=fmean(crowded),
        )
