"""Week 3 Day 4, task 1: a request that pages."""

from answer import answer


def test_task_1_a_new_request_waits() -> None:
    request = answer.PagedRequest([1, 2, 3], 4)
    assert request.state == "waiting", "a request without blocks waits"
