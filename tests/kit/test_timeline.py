"""What a timeline makes of an event log: one made by hand, and those of the engines."""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest

import tiny_llm_ref as ref
from kit.timelines import Play, alone, everything, lives, stays
from support import POISON, FragileModel, ToyModel, is_poisoned
from tiny_llm_kit.timeline import Recorder, recorder
from tiny_llm_kit.timeline.run import Run
from tiny_llm_kit.timeline.worked_example import ANSWERS, PROMPT_TOKENS, in_steps, places, play
from tiny_llm_kit.workloads.items import WorkItem
from toy_fixtures import begin_test as begin_test
from toy_fixtures import toy as toy


def test_a_request_has_its_times() -> None:
    record = Recorder("run")
    alone(Play(record), 7, begin=10, steps=4)
    (life,) = record.run().lives
    assert (life.number, life.name, life.prompt_tokens, life.generated) == (1, "1", 3, 4)
    assert (life.arrived, life.waited, life.ttft, life.ended, life.outcome) == (0, 0, 1, 4, "finished")
    assert life.tpot == 1
    assert life.tokens == [1, 2, 3, 4]
    assert life.waits == [(0, 0)]
    assert stays(record.run()) == [[(0, 0, 4)]]
    assert record.run().duration == 4


def test_a_newcomer_takes_the_lowest_free_lane_and_begins_when_it_falls_free() -> None:
    record = Recorder("run", slots=3)
    play = Play(record)
    play.arrived(1).arrived(2).arrived(3).arrived(4).arrived(5)
    play.admitted(1).chunk(1).admitted(2).chunk(2).admitted(3).chunk(3).step(3, 2)
    play.at(1).first_token(1).first_token(2).first_token(3).step(3, 2)
    # As in an engine that launches ahead: the newcomers are launched, then the ends are read.
    play.at(1.9).admitted(4).chunk(4).admitted(5).chunk(5)
    play.at(2).finished(3, 2).finished(2, 2).step(3)
    play.at(3).first_token(4).finished(4).first_token(5).finished(5).finished(1, 3).step(0)
    assert stays(record.run()) == [[(0, 0, 3)], [(1, 0, 2)], [(2, 0, 2)], [(1, 2, 3)], [(2, 2, 3)]]
    assert record.run().lanes == 3, "no lane beyond the slots"
    assert record.run().utilization == 1
    assert [life.waited for life in record.run().lives] == [0, 0, 0, 1.9, 1.9], "the queue's time ends at the admission"


def test_a_newcomer_begins_when_its_lane_falls_free_also_if_all_is_read_at_once() -> None:
    record = Recorder("run", slots=1)
    play = Play(record)
    play.arrived(1).arrived(2).admitted(1).chunk(1).at(1).first_token(1).step(1, 1)
    play.at(1.5).admitted(2).chunk(2).at(2).token(1).finished(1, 2).at(2.5).first_token(2).finished(2).step()
    assert stays(record.run()) == [[(0, 0, 2)], [(0, 2, 2.5)]]


def test_slots_that_nobody_takes_are_lanes_too() -> None:
    record = Recorder("run", slots=4)
    alone(Play(record), 1, begin=0, steps=2)
    assert record.run().lanes == 4
    assert record.run().utilization == 1 / 4
    assert Recorder("nothing happened", slots=2).run().lanes == 2
    assert Recorder("nothing happened").run().utilization is None


def test_a_chunk_launched_ahead_is_computed_until_the_next_iteration_ends() -> None:
    record = Recorder("run")
    play = Play(record)
    play.arrived(1).arrived(2, 5).at(0.5).admitted(1).chunk(1).at(1).step()
    play.at(1.1).admitted(2).chunk(2, 3).at(2).first_token(1).step(2)
    play.at(2.1).chunk(2, 2, 5).at(5).token(1).step(2)
    play.at(6).token(1).first_token(2).step(2)
    first, second = record.run().lives
    assert [(chunk.begin, chunk.end) for chunk in first.stays[0].chunks] == [(0.5, 2)], "nothing was computed before its launch"
    assert [(c.begin, c.end, c.tokens) for c in second.stays[0].chunks] == [(2, 5, 3), (5, 6, 2)], "the device was busy until 2"
    assert second.stays[0].begin == 2
    assert second.waited == 1.1


def test_where_a_launch_waits_a_chunk_is_computed_in_its_own_iteration() -> None:
    record = Recorder("run", slots=1, launch_waits=True)
    play = Play(record)
    play.arrived(1).arrived(2).admitted(1).at(2).chunk(1).step(1, 1)
    play.at(2.1).admitted(2).at(5).chunk(2).at(5.1).first_token(1).finished(1).step()
    play.at(5.3).first_token(2).finished(2).step(0)
    first, second = record.run().lives
    assert [(chunk.begin, chunk.end) for life in (first, second) for chunk in life.stays[0].chunks] == [(0, 2), (2.1, 5.1)]
    assert stays(record.run()) == [[(0, 0, 2.1)], [(0, 2.1, 5.3)]], "the first had been computed when the second began"
    assert (first.first_token, first.ended) == (5.1, 5.1), "which its reader heard of when the second had been launched"
    assert [(sample.time, sample.active) for sample in record.run().samples] == [(0, 1), (2.1, 1), (5.1, 0)]


def test_a_chunk_that_is_read_at_once_is_computed_in_its_iteration() -> None:
    record = Recorder("run")
    play = Play(record)
    play.arrived(1).arrived(2).admitted(1).chunk(1, 2).chunk(1, 1, 3).at(3).first_token(1).step()
    play.at(3.5).admitted(2).chunk(2).at(4).token(1).first_token(2).step(2)
    first, second = record.run().lives
    assert [(c.begin, c.end, c.tokens) for c in first.stays[0].chunks] == [(0, 3, 3)], "two chunks of one iteration are one"
    assert [(chunk.begin, chunk.end) for chunk in second.stays[0].chunks] == [(3.5, 4)]


def test_who_is_preempted_comes_back_as_another_stay() -> None:
    life = lives(everything())["<script>alert(1)</script>"]
    assert [(stay.begin, stay.end, stay.preempted) for stay in life.stays] == [(0, 2, True), (3, 4, False)]
    assert life.waits == [(0, 0), (2, 3)]
    assert (life.outcome, life.generated, life.ttft) == ("cancelled", 2, 1)
    assert life.waited == 0, "it waited for its first stay; later it was preempted"


def test_every_end_is_told_apart() -> None:
    run = everything()
    assert [life.outcome for life in run.lives] == ["cancelled", "finished", "failed", "cancelled", "", ""]
    assert [len(life.stays) for life in run.lives] == [2, 1, 1, 0, 0, 1], "the fourth and the fifth never started"
    assert lives(run)["4"].waits == [(0, 2)]
    assert lives(run)["5"].waits == [(0, None)], "it still waits"
    assert lives(run)["6"].stays[0].end is None, "it still runs"


def test_one_that_comes_and_goes_within_an_iteration_has_been_there() -> None:
    record = Recorder("run")
    Play(record).arrived(1).at(1).admitted(1).chunk(1).at(2).failed(1).step().at(3).arrived(2).admitted(2).step()
    assert stays(record.run()) == [[(0, 1, 2)], [(0, 3, None)]]


def test_who_leaves_after_its_chunk_does_not_come_back() -> None:
    record = Recorder("run")
    play = Play(record)
    play.arrived(1, 9).admitted(1).chunk(1).step().at(1).chunk(1, 3, 6).at(2).preempted(1).step()
    assert stays(record.run()) == [[(0, 0, 2)]]


def test_a_recording_may_begin_in_the_middle() -> None:
    record = Recorder("run")
    play = Play()
    play.arrived(1).admitted(1).chunk(1).step()
    play.log.readers.append(record.read)
    play.at(1).first_token(1).arrived(2).admitted(2).chunk(2).step().at(2).token(1).finished(1, 2).first_token(2).step()
    assert [life.prompt_tokens for life in record.run().lives] == [3], "only who came while it recorded"


def test_kv_tokens_and_blocks_are_those_of_who_is_in_a_lane() -> None:
    plain, paged = Recorder("run"), Recorder("run", block_size=4)
    alone(Play(plain, paged), 1, begin=0, steps=3)
    # 3 tokens of the prompt, one more with each decode step, and the last token of an answer is never stored
    assert [sample.kv_tokens for sample in plain.run().samples] == [3, 4, 5, 0]
    assert [sample.blocks for sample in paged.run().samples] == [1, 1, 2, 0]
    assert plain.run().samples[0].blocks is None


def test_a_prompt_that_is_not_read_to_its_end_holds_what_was_read() -> None:
    record = Recorder("run")
    play = Play(record)
    play.arrived(1, 9).admitted(1).chunk(1, 3).step().at(1).step().at(2).chunk(1, 6, 9).step().at(3).first_token(1).step()
    assert [sample.kv_tokens for sample in record.run().samples] == [3, 3, 9, 10]


def test_what_was_found_in_a_prefix_cache_counts_for_whoever_computed_it() -> None:
    record = Recorder("run", block_size=4)
    play = Play(record)
    play.arrived(1, 10).arrived(2, 10).admitted(1).chunk(1, 10).step()
    play.at(1).first_token(1).admitted(2).chunk(2, 1, 10).step(2)  # two blocks and one token more of it
    assert [(sample.kv_tokens, sample.blocks) for sample in record.run().samples] == [(10, 3), (11 + 1, 3 + 1)]


def test_a_log_without_tokens_tells_the_same_but_for_their_times() -> None:
    real, simulated = Recorder("run"), Recorder("run")
    alone(Play(real), 1, begin=0, steps=3)
    play = Play(simulated)
    play.arrived(1).admitted(1).chunk(1).step().at(1).first_token(1).step().at(2).step().at(3).finished(1, 3).step(0)
    assert simulated.run().samples == real.run().samples
    (life,) = simulated.run().lives
    assert life.tokens == [1]
    life.tokens = [1, 2, 3]
    assert simulated.run().lives == real.run().lives


def test_while_nobody_is_there_nothing_is_counted() -> None:
    at_once, ahead = Recorder("run"), Recorder("run")
    alone(Play(ahead), 1, begin=0, steps=2)
    play = Play(at_once)
    for begin in (0, 10):
        play.at(begin).arrived(begin).admitted(begin).chunk(begin).at(begin + 2).first_token(begin).finished(begin).step()
    assert [(sample.time, sample.active) for sample in at_once.run().samples] == [(0, 1), (2, 0), (10, 1)]
    assert [(sample.time, sample.active) for sample in ahead.run().samples] == [(0, 1), (1, 1), (2, 0)]


def test_the_first_requests_are_kept_and_steps_until_they_end() -> None:
    record = Recorder("run", slots=1, most=2)
    play = Play(record)
    for number in range(5):
        alone(play, number, begin=10 * number, steps=3)
    run = record.run()
    assert [life.arrived for life in run.lives] == [0, 10]
    assert (run.left_out, run.duration) == (3, 13)
    assert run.utilization is None, "others were there"


def test_who_is_left_out_has_a_lane_all_the_same() -> None:
    record = Recorder("run", most=2)
    play = Play(record)
    play.arrived(1).arrived(2).arrived(3).admitted(1).chunk(1).admitted(3).chunk(3).step(2, 1)
    play.at(1).first_token(1).first_token(3).finished(1).admitted(2).chunk(2).step(2)
    play.at(2).finished(3, 2).first_token(2).finished(2).step(0)
    assert record.run().left_out == 1
    assert stays(record.run()) == [[(0, 0, 1)], [(0, 1, 2)]]
    assert record.run().lanes == 2


def test_memory_is_bounded_and_peaks_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MOST_SAMPLES", 16)
    monkeypatch.setattr(recorder, "MOST_TOKENS", 10)
    record = Recorder("run")
    play = Play(record)
    play.arrived(1).admitted(1).chunk(1).step()
    for step in range(1, 1000):
        (play.at(step).token if step > 1 else play.at(step).first_token)(1).step(1, queue=77 if step == 501 else 1)
    run = record.run()
    assert 8 <= len(run.samples) <= 16
    assert max(sample.queue for sample in run.samples) == 77
    gaps = {later.time - earlier.time for earlier, later in pairwise(run.samples)}
    assert len(gaps) == 1, "every sample stands for as many steps"
    assert run.lives[0].tokens == list(range(1, 11))
    assert run.lives[0].generated == 999


def test_the_worked_example_is_the_one_that_is_played_by_hand() -> None:
    static, continuous = play(ref)
    assert list(ANSWERS.values())[:3] == [4, 12, 8]
    # lane, begin, end of A, B, C, and of D and E, which follow
    assert stays(static) == [[(0, 0, 4)], [(1, 0, 12)], [(2, 0, 8)], [(0, 12, 20)], [(1, 12, 16)]]
    assert stays(continuous) == [[(0, 0, 4)], [(1, 0, 12)], [(2, 0, 8)], [(0, 4, 12)], [(2, 8, 12)]]
    assert places(static, 12) == (24, 36)
    assert places(static, static.duration) == (36, 60)
    assert places(continuous, continuous.duration) == (36, 36)
    assert "24 of 36 places are used, 67%" in static.note
    for run in (static, continuous):
        assert [life.generated for life in run.lives] == list(ANSWERS.values())
        assert [[(c.begin, c.end) for c in life.stays[0].chunks] for life in run.lives] == [
            [(life.stays[0].begin, life.stays[0].begin + 1)] for life in run.lives
        ]
        assert all(life.first_token == life.stays[0].begin + 1 for life in run.lives)


class ASecond:
    """A cost model by which an iteration takes a second, whatever it computes."""

    launch_waits = False

    def seconds(self, calls: Sequence[Any]) -> float:
        return float(bool(calls))


def test_the_simulators_play_it_as_the_engines_do() -> None:
    items = [WorkItem((7,) * PROMPT_TOKENS, tokens) for tokens in ANSWERS.values()]
    for run, simulate in zip(play(ref), (ref.simulate_groups, ref.simulate_slots), strict=True):
        record = Recorder("run", slots=3, names=list(ANSWERS))
        simulate(items, ASecond(), 3, readers=[record.read])
        assert stays(record.run()) == stays(run)
        assert places(record.run(), 12) == places(run, 12)
        assert [(s.active, s.kv_tokens) for s in record.run().samples] == [(s.active, s.kv_tokens) for s in run.samples]


def check(run: Run, slots: int | None = None) -> None:
    """What is so in any run: nobody shares a lane, and all that is in a stay is within it."""
    by_lane: dict[int, list[tuple[float, float]]] = {}
    for life in run.lives:
        assert life.waits[0][0] == life.arrived
        for stay in life.stays:
            end = run.duration if stay.end is None else stay.end
            assert life.arrived <= stay.begin <= end <= run.duration
            by_lane.setdefault(stay.lane, []).append((stay.begin, end))
            for chunk in stay.chunks:
                assert chunk.begin <= chunk.end, "a chunk ends after it begins"
    for lane, spans in by_lane.items():
        spans.sort()
        for (_, end), (begin, _) in pairwise(spans):
            assert end <= begin, f"two requests are in lane {lane} at {begin}"
    if slots is not None:
        assert set(by_lane) <= set(range(slots)), "there are no more lanes than slots"


class Ticking:
    """A clock that goes on by a thousandth whenever somebody looks at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def engines(model: Any) -> Iterator[tuple[Recorder, Any, type]]:
    clock = Ticking()
    slots = ref.ContinuousBatchScheduler(model, 3, prefill_step=4, clock=clock)
    yield Recorder("slots", 3), slots, ref.Request
    yield Recorder("groups", 3), ref.DynamicBatcher(model, 3, clock=clock), ref.Request
    blocks = {"num_blocks": 12, "block_size": 4, "max_num_seqs": 4, "max_num_batched_tokens": 8}
    yield Recorder("paged", block_size=4), ref.Engine(model, **blocks, clock=clock), ref.PagedRequest


@pytest.mark.parametrize("which", range(3), ids=["slots", "groups", "paged"])
@pytest.mark.parametrize("seed", range(3))
def test_the_log_of_an_engine_is_enough(toy: ToyModel, which: int, seed: int) -> None:
    record, engine, kind = list(engines(FragileModel(toy, is_poisoned)))[which]
    waits = Recorder("the same", record.slots, launch_waits=True)
    engine.event_log.readers += [record.read, waits.read]
    chance = random.Random(seed)
    requests = []
    for number in range(14):
        prompt = [chance.randrange(40, 90) for _ in range(chance.randint(2, 9))]
        if number == 5:
            prompt[-1] = POISON
        requests.append(kind(prompt, chance.randint(1, 20)))
    for request in requests[:9]:
        engine.submit(request)
    engine.cancel(requests[8])
    for step in range(400):
        engine.step()
        if step == 4:
            for request in requests[9:]:
                engine.submit(request)
        if step == 9:
            engine.cancel(next(iter(engine.running.values())))
        if not engine.has_work:
            break
    run = record.run()
    check(run, record.slots)
    check(waits.run(), record.slots)
    outcomes = {"cancelled": "cancelled", "error": "failed", "length": "finished"}
    assert [life.outcome for life in run.lives] == [outcomes[request.finish_reason] for request in requests]
    assert [life.generated for life in run.lives] == [len(request.generated_tokens) for request in requests]
    assert "failed" in {life.outcome for life in run.lives}
    assert not run.lives[8].stays, "cancelled before it started"
    assert [len(life.tokens) for life in run.lives] == [life.generated for life in run.lives]
    if which == 2:
        preempted = [sum(stay.preempted for stay in life.stays) for life in run.lives]
        assert preempted == [request.preemptions for request in requests]
        assert any(preempted), "this pool is too small for all"
        assert max(sample.blocks or 0 for sample in run.samples) <= 12


def test_a_schedule_that_is_read_at_once_takes_as_many_steps_as_one_that_is_not(toy: ToyModel) -> None:
    runs = []
    for engine, ahead in ((ref.DynamicBatcher(toy, 2), False), (ref.ContinuousBatchScheduler(toy, 2), True)):
        record = Recorder("run", 2, unit="step")
        engine.event_log.readers.append(in_steps(record.read, ahead))
        engine.submit(ref.Request([50, 51], 5))
        engine.run()
        runs.append(record.run())
    assert stays(runs[0]) == stays(runs[1]) == [[(0, 0, 5)]]
    counts = [[(sample.time, sample.active, sample.kv_tokens) for sample in run.samples] for run in runs]
    assert counts[0] == [(0, 1, 2), (1, 1, 3), (2, 1, 4), (3, 1, 5), (4, 1, 6)]
    assert counts[1] == [*counts[0], (5, 0, 0)]
