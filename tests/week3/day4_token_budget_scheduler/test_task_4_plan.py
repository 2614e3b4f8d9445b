"""Week 3 Day 4, task 4: what a step computes."""

from answer import answer


def test_task_4_a_plan_for_nobody_is_empty() -> None:
    pool = answer.BlockPool(8, 4)
    plan = answer.Scheduler(4, 8).plan([], [], pool, answer.PrefixCache(pool))
    assert [*plan.decodes, *plan.chunks, *plan.preempted] == [], "nobody waits and nobody runs"
