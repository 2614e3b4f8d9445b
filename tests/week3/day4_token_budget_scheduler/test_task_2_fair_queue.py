"""Week 3 Day 4, task 2: who is admitted next."""

from answer import answer


def test_task_2_two_of_one_user_are_served_in_the_order_in_which_they_came() -> None:
    queue = answer.FairQueue()
    first, second = (answer.PagedRequest([1, 2, 3], 4) for _ in range(2))
    for request in (first, second):
        queue[request.request_id] = request
    assert list(queue.in_turn()) == [first, second], "who came first is served first"
