"""Week 3 Day 4, task 2: which request is admitted next, among thousands of requests of many users."""

import gc
import random
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from answer import answer
from support import refuses


def make(user: str = "ada", prompt: int = 10, kind: Any = None, **kwargs: Any) -> Any:
    return (kind or answer.PagedRequest)([1] * prompt, 5, user=user, **kwargs)


def queue_of(*requests: Any) -> Any:
    queue = answer.FairQueue()
    for request in requests:
        queue[request.request_id] = request
    return queue


def leave(queue: Any, *requests: Any) -> None:
    for request in requests:
        del queue[request.request_id]


def assert_turns(queue: Any, expected: list[Any], look_at: str) -> None:
    """`in_turn` gives these requests, named by their places in the order of arrival."""
    __tracebackhide__ = True
    names = {id(request): place for place, request in enumerate(sorted(expected, key=lambda request: request.request_id))}
    got = [names.get(id(request), "another request") for request in queue.in_turn()]
    want = [names[id(request)] for request in expected]
    assert got == want, f"{look_at}. Requests by number, in the order in which they were made: {got}, expected {want}"


def test_task_2_a_single_user_is_served_in_the_order_of_arrival() -> None:
    requests = [make(prompt=length) for length in (30, 5, 20, 5)]
    assert_turns(queue_of(*requests), requests, "one user, no priorities, no deadlines: the first to come is first")


def test_task_2_nobody_waits() -> None:
    queue = answer.FairQueue()
    assert_turns(queue, [], "an empty queue has no turns")
    request = make()
    queue[request.request_id] = request
    leave(queue, request)
    assert_turns(queue, [], "the only one has left")


def test_task_2_it_is_a_mapping_of_the_waiting() -> None:
    one, two, three = make("ada"), make("bob"), make("ada", priority=2)
    queue = queue_of(one, two)
    assert len(queue) == 2, "len counts the waiting"
    assert queue[two.request_id] is two, "by its id, a request is found"
    assert three.request_id not in queue, "three has never been in the queue"
    with refuses(KeyError, "no request with this id waits"):
        del queue[three.request_id]
    assert queue.pop(one.request_id) is one, "pop takes a request out and returns it"
    assert queue.pop(one.request_id, None) is None, "pop of a request that has left returns the default"
    assert list(queue.values()) == [two], "two is still there"
    assert bool(queue), "a request waits"
    assert_turns(queue, [two], "only two is left")


def test_task_2_a_lower_priority_number_goes_first() -> None:
    low, normal, urgent = make(priority=7), make(priority=0), make(priority=-3)
    assert_turns(queue_of(low, normal, urgent), [urgent, normal, low], "priorities -3, 0, 7, in this order")


def test_task_2_priorities_are_strict() -> None:
    hungry, urgent = make("ada", priority=1), [make("bob", prompt=100) for _ in range(3)]
    queue = queue_of(hungry, *urgent)
    queue.charge(urgent[0], 10_000)
    assert_turns(queue, [*urgent, hungry], "bob was served far more, but all of his come before any of priority 1")


def test_task_2_the_user_served_least_goes_first() -> None:
    ada, bob = make("ada"), make("bob")
    queue = queue_of(ada, bob)
    queue.charge(ada, 1)
    assert_turns(queue, [bob, ada], "ada was served one token more than bob: bob is next")
    queue.charge(bob, 1)
    assert_turns(queue, [ada, bob], "both were served equally: the first to come goes first")
    queue.charge(bob, 1)
    queue.charge(bob, 4)
    queue.charge(ada, 2)
    assert_turns(queue, [ada, bob], "charges add up: 6 for bob, 3 for ada")


def test_task_2_counters_are_of_a_user_and_not_of_a_request() -> None:
    first, second, bob = make("ada"), make("ada"), make("bob")
    queue = queue_of(first, second, bob)
    leave(queue, first)
    queue.charge(first, 5)
    assert_turns(queue, [bob, second], "what was computed for ada's first request counts when her second one waits")


def test_task_2_those_who_run_are_charged_too() -> None:
    ada, bob = [make("ada") for _ in range(2)], make("bob")
    queue = queue_of(*ada, bob)
    leave(queue, ada[0])
    for _ in range(3):
        queue.charge(ada[0], 1)
    queue.charge(bob, 2)
    assert_turns(queue, [bob, ada[1]], "3 tokens of a request that has left the queue are more than 2")


def test_task_2_the_order_looks_ahead_as_if_prompts_had_been_charged() -> None:
    ada = [make("ada", prompt=10) for _ in range(3)]
    bob = [make("bob", prompt=4) for _ in range(4)]
    expected = [ada[0], bob[0], bob[1], bob[2], ada[1], bob[3], ada[2]]
    assert_turns(
        queue_of(*ada, *bob),
        expected,
        "counters after each turn, ada's and bob's: 10 0, 10 4, 10 8, 10 12, 20 12, 20 16. With equal counters who came first",
    )


def test_task_2_each_priority_has_its_own_counters() -> None:
    ada, bob, urgent = make("ada", priority=1), make("bob", priority=1), make("ada", priority=0, prompt=50)
    queue = queue_of(ada, bob, urgent)
    assert_turns(queue, [urgent, ada, bob], "ada's urgent prompt doesn't count among those of priority 1")
    leave(queue, urgent)
    queue.charge(urgent, 1000)
    assert_turns(queue, [ada, bob], "what ada got at priority 0 doesn't count at priority 1")


def test_task_2_coming_to_a_priority_does_not_cost_a_place_at_another() -> None:
    ada, bob, carl = make("ada"), make("bob"), make("carl", priority=1)
    queue = queue_of(ada, bob, carl)
    queue.charge(bob, 5)
    queue.charge(carl, 1000)
    more = make("ada", priority=1)
    queue[more.request_id] = more
    assert_turns(queue, [ada, bob, carl, more], "ada begins at carl's level at priority 1, but at priority 0 she is still next")


def test_task_2_among_equals_the_earliest_deadline_goes_first() -> None:
    users = [make("ada"), make("bob", deadline=9.0), make("carl", deadline=7.5), make("dora", deadline=9.0)]
    expected = [users[2], users[1], users[3], users[0]]
    assert_turns(queue_of(*users), expected, "none was served yet: deadlines 7.5, 9, 9 and none, and then by arrival")


def test_task_2_a_line_is_in_the_order_of_deadlines() -> None:
    requests = [make(deadline=9.0), make(), make(deadline=2.0), make(deadline=9.0), make()]
    expected = [requests[place] for place in (2, 0, 3, 1, 4)]
    assert_turns(queue_of(*requests), expected, "one user: deadlines 2, 9, 9, and then those who have time, by arrival")


def test_task_2_fairness_goes_before_deadlines() -> None:
    ada, bob = make("ada"), make("bob", deadline=0.5)
    queue = queue_of(ada, bob)
    queue.charge(bob, 1)
    assert_turns(queue, [ada, bob], "a deadline is no way to get more than others: ada was served less")


@pytest.mark.parametrize("place", range(5))
def test_task_2_anybody_may_leave_the_middle(place: int) -> None:
    requests = [make("ada"), make("ada", deadline=3.0), make("bob"), make("ada"), make("bob", priority=1)]
    queue = queue_of(*requests)
    turns = list(queue.in_turn())
    leave(queue, turns[place])
    rest = [request for request in turns if request is not turns[place]]
    assert set(map(id, queue.in_turn())) == set(map(id, rest)), f"the one in turn {place} has left, and no other"
    assert len(queue) == 4, "and is not counted any more"


def test_task_2_whoever_leaves_makes_room_for_the_next_of_the_line() -> None:
    ada, bob = [make("ada") for _ in range(4)], make("bob")
    queue = queue_of(*ada, bob)
    leave(queue, ada[1], ada[0])
    assert_turns(queue, [ada[2], bob, ada[3]], "ada's third request is her first now, and came before bob's")
    leave(queue, ada[2], ada[3])
    assert_turns(queue, [bob], "all of ada's have left")


def test_task_2_an_urgent_newcomer_becomes_the_first_of_its_line() -> None:
    ada, bob, urgent = make("ada"), make("bob", deadline=5.0), make("ada", deadline=1.0)
    queue = queue_of(ada, bob, urgent)
    assert_turns(queue, [urgent, bob, ada], "ada's line now begins with a deadline that is before bob's")
    leave(queue, urgent)
    assert_turns(queue, [bob, ada], "without it, bob's deadline comes first again")


def test_task_2_who_was_preempted_has_kept_its_place() -> None:
    requests = [make() for _ in range(3)]
    queue = queue_of(*requests)
    leave(queue, requests[0])
    queue[requests[0].request_id] = requests[0]
    assert_turns(queue, requests, "the first one was admitted and preempted: it arrived before the others, and is next again")
    late = make()
    leave(queue, requests[1])
    queue[late.request_id] = late
    queue[requests[1].request_id] = requests[1]
    assert_turns(queue, [*requests, late], "a newcomer doesn't get in front of one that was preempted")


def test_task_2_a_place_is_kept_however_often_one_is_preempted() -> None:
    first, second, bob = make("ada"), make("ada"), make("bob")
    queue = queue_of(first, second, bob)
    for _ in range(5):
        leave(queue, second)
        queue[second.request_id] = second
    assert_turns(queue, [first, bob, second], "none is in the queue twice, or has lost its place")


def test_task_2_however_many_urgent_ones_come_and_go_the_others_keep_their_places() -> None:
    ada, bob = [make("ada", deadline=deadline) for deadline in (5.0, None, 7.0)], [make("bob") for _ in range(3)]
    queue, expected = queue_of(*ada, *bob), [ada[0], bob[0], ada[2], bob[1], ada[1], bob[2]]
    for place in range(60):
        urgent = make(("ada", "bob")[place % 2], deadline=1.0)
        queue[urgent.request_id] = urgent
        assert next(queue.in_turn()) is urgent, "the earliest deadline of users who were served equally"
        leave(queue, urgent)
        assert_turns(queue, expected, f"{place + 1} urgent requests have come and left again")


def test_task_2_looking_changes_nothing() -> None:
    requests = [make(user, prompt=5 + place) for place, user in enumerate(["ada", "bob", "ada", "carl", "bob", "ada"])]
    queue = queue_of(*requests)
    queue.charge(requests[3], 3)
    turns = list(queue.in_turn())
    half = queue.in_turn()
    for _ in range(3):
        next(half)
    assert_turns(queue, turns, "a plan that looked at the first three has admitted none yet: the order is the same")
    assert len(queue) == 6, "and all still wait"
    leave(queue, turns[0])
    queue.charge(turns[0], len(turns[0].prompt))
    assert_turns(queue, turns[1:], "the first one is admitted and charged, as foreseen: the order of the others is the same")


def test_task_2_two_busy_users_get_equal_parts() -> None:
    generator = random.Random(0)
    many = [make("ada", prompt=generator.randint(1, 40)) for _ in range(200)]
    few = [make("bob", prompt=generator.randint(1, 80)) for _ in range(50)]
    queue = queue_of(*many, *few)
    served = {"ada": 0, "bob": 0}
    while all(any(request.user == user for request in queue.values()) for user in served):
        request = next(queue.in_turn())
        leave(queue, request)
        for tokens in (len(request.prompt), *[1] * generator.randint(0, 20)):
            queue.charge(request, tokens)
            served[request.user] += tokens
        assert abs(served["ada"] - served["bob"]) <= 100, (
            f"both have requests waiting, so that neither may be ahead by more than one request (100 tokens at most): {served}"
        )
    assert min(served.values()) > 500, "this test should have served both for a while"


def test_task_2_many_requests_do_not_buy_more() -> None:
    crowd, single = [make("ada") for _ in range(50)], make("bob")
    queue = queue_of(*crowd, single)
    assert list(queue.in_turn()).index(single) == 1, "bob's only request is second, however many ada sent before"


def test_task_2_time_that_was_not_used_is_not_saved_up() -> None:
    ada = [make("ada") for _ in range(20)]
    bob = [make("bob") for _ in range(11)]
    queue = queue_of(*ada, bob[10])
    leave(queue, bob[10])
    queue.charge(ada[0], 1000)
    for request in bob[:10]:
        queue[request.request_id] = request
    users = [request.user for request in queue.in_turn()][:10]
    assert users.count("ada") == 5, (
        f"bob was away while ada was served 1000 tokens. From now on they take turns, and ada doesn't wait until bob has caught"
        f" up: {users}"
    )


def test_task_2_a_new_user_begins_where_the_others_are() -> None:
    ada = [make("ada") for _ in range(10)]
    queue = queue_of(*ada)
    queue.charge(ada[0], 500)
    for _ in range(10):
        bob = make("bob")
        queue[bob.request_id] = bob
    users = [request.user for request in queue.in_turn()][:6]
    assert users.count("ada") == 3, f"a user who has never been here before takes turns with those who wait: {users}"


def test_task_2_a_new_user_begins_with_the_lowest_counter_of_those_who_wait() -> None:
    ada, bob = make("ada"), make("bob")
    queue = queue_of(ada, bob)
    queue.charge(ada, 30)
    queue.charge(bob, 300)
    carl = make("carl")
    queue[carl.request_id] = carl
    assert_turns(queue, [ada, carl, bob], "carl begins with 30, as ada, who came earlier; bob was served 300")
    queue.charge(ada, 1)
    assert_turns(queue, [carl, ada, bob], "carl has 30, ada 31")


def test_task_2_who_was_served_more_comes_back_with_what_was_counted() -> None:
    ada, bob = [make("ada") for _ in range(2)], make("bob")
    queue = queue_of(ada[0], bob)
    leave(queue, ada[0])
    queue.charge(ada[0], 100)
    queue.charge(bob, 40)
    queue[ada[1].request_id] = ada[1]
    assert_turns(queue, [bob, ada[1]], "ada has 100 and bob 40: a user who goes away and comes back owes no fewer tokens")


def test_task_2_more_requests_of_somebody_who_waits_change_no_counter() -> None:
    ada, bob, more = make("ada"), make("bob"), make("ada")
    queue = queue_of(ada, bob)
    queue.charge(bob, 50)
    queue[more.request_id] = more
    assert_turns(queue, [ada, more, bob], "ada has waited all the time with 0: both of hers come before bob, who has 50")


def test_task_2_a_pause_in_which_nobody_waited_is_not_saved_up_either() -> None:
    ada = [make("ada") for _ in range(20)]
    queue = answer.FairQueue()
    for request in ada[:10]:
        queue[request.request_id] = request
        leave(queue, request)
        queue.charge(request, 20)
    for request in [make("bob") for _ in range(10)] + ada[10:]:
        queue[request.request_id] = request
    users = [request.user for request in queue.in_turn()][:10]
    assert users.count("ada") >= 3, (
        f"ada was served 200 tokens, one request of 20 after another, when there was no other. bob, who is new, may be a"
        f" request or two ahead, and not ten: {users}"
    )


def test_task_2_mend_changes_nobody_s_turn() -> None:
    bob, ada, carl = make("bob"), make("ada"), make("carl", priority=1)
    queue = queue_of(bob, ada, carl)
    queue.charge(bob, 100)
    queue.mend()
    assert_turns(
        queue,
        [ada, bob, carl],
        "mend, which is given, lines all up again by `__setitem__`. ada, who was served less, must not be lifted to bob's"
        " counter by that: if you keep books of your own, adapt mend",
    )
    assert len(queue) == 3, "all still wait"


class Name(str):
    """A user's name, of which one can tell whether it is still referenced."""

    __slots__ = ("__weakref__",)


def test_task_2_users_who_come_once_do_not_fill_the_memory() -> None:
    ada, bob, carl = make("ada"), make("bob"), make("carl")
    queue = queue_of(ada, bob, carl)
    queue.charge(ada, 7)
    queue.charge(carl, 3)
    names = weakref.WeakSet[Name]()
    guest = make("guest")
    for place in range(10_500):
        guest.user = Name(f"guest {place}")
        names.add(guest.user)
        queue[guest.request_id] = guest
        leave(queue, guest)
        queue.charge(guest, 1)
    gc.collect()
    assert len(names) <= 10_001, (
        f"10500 users came and went, and {len(names)} of their counters are kept: at most 10000 should be"
    )
    assert_turns(queue, [bob, carl, ada], "those who wait keep their counters: bob 0, carl 3, ada 7")


@pytest.mark.parametrize("seed", range(8))
def test_task_2_random_comings_and_goings(seed: int) -> None:
    """Against a list that is searched for each turn. At each priority one request waits all the time."""
    generator = random.Random(seed)
    residents = [make("resident", priority=priority) for priority in (0, 1)]
    queue, plain, left = queue_of(*residents), PlainQueue(), []
    for request in residents:
        plain.add(request)
    for _ in range(80):
        what = generator.choice(["come", "come", "go", "charge", "back"])
        guests = [request for request in plain.waiting if request not in residents]
        if what == "go" and guests:
            request = generator.choice(guests)
            leave(queue, request)
            plain.waiting.remove(request)
            left.append(request)
        elif what == "charge":
            request, tokens = generator.choice(plain.waiting + left), generator.randint(0, 9)
            queue.charge(request, tokens)
            plain.charge(request, tokens)
        elif what == "come" or left:
            deadline = generator.choice([None, None, 1.0, 2.5])
            newcomer = make(
                generator.choice("abc"), generator.randint(1, 12), priority=generator.choice([0, 1]), deadline=deadline
            )
            request = left.pop(generator.randrange(len(left))) if what == "back" else newcomer
            queue[request.request_id] = request
            plain.add(request)
        assert_turns(queue, plain.in_turn(), "priority, then the user served least, then deadline, then arrival")


class PlainQueue:
    """What the order should be, in the slowest way."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.served: dict[tuple[int, str], int] = {}
        self.arrivals: dict[int, int] = {}

    def add(self, request: Any) -> None:
        same = [other for other in self.waiting if other.priority == request.priority]
        if all(other.user != request.user for other in same):
            key = (request.priority, request.user)
            level = min((self.served[other.priority, other.user] for other in same), default=0)
            self.served[key] = max(self.served.get(key, 0), level)
        self.arrivals.setdefault(request.request_id, len(self.arrivals))
        self.waiting.append(request)

    def charge(self, request: Any, tokens: int) -> None:
        self.served[request.priority, request.user] += tokens

    def in_turn(self) -> list[Any]:
        served, rest, turns = dict(self.served), list(self.waiting), []
        while rest:
            turns.append(min(rest, key=lambda request: self.key(request, served)))
            rest.remove(turns[-1])
            served[turns[-1].priority, turns[-1].user] += len(turns[-1].prompt)
        return turns

    def key(self, request: Any, served: dict[tuple[int, str], int]) -> Any:
        deadline = float("inf") if request.deadline is None else request.deadline
        arrival = self.arrivals[request.request_id]
        return request.priority, served[request.priority, request.user], deadline, arrival


class Watched(float):
    """A deadline that counts how often it is compared."""

    looks = 0
    __hash__ = float.__hash__


def counted(name: str) -> Callable[[Any, Any], Any]:
    def compare(self: Any, other: Any) -> Any:
        Watched.looks += 1
        return getattr(float, name)(self, other)

    return compare


for name in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"):
    setattr(Watched, name, counted(name))


@pytest.mark.parametrize("users", [1, 40, 2000])
def test_task_2_the_next_one_is_found_without_a_look_at_everyone(users: int) -> None:
    class Seen(answer.PagedRequest):  # type: ignore[misc, name-defined]
        """Counts how often anything of it is read."""

        def __getattribute__(self, name: str) -> Any:
            Watched.looks += 1
            return super().__getattribute__(name)

    generator = random.Random(0)
    requests = [make(f"user {place % users}", kind=Seen, deadline=Watched(generator.random())) for place in range(2040)]
    queue = queue_of(*requests[:2000])
    list(queue.in_turn())
    Watched.looks = 0
    for newcomer in requests[2000:]:
        first = next(queue.in_turn())
        leave(queue, first)
        queue.charge(first, 10)
        queue.charge(newcomer, 1)
        queue[newcomer.request_id] = newcomer
    looks = Watched.looks / 40
    assert looks < 400, (
        f"{looks:.0f} reads and comparisons for a step in which one comes and one goes, while 2000 wait: that is a look at"
        " everyone. A heap needs about 11 comparisons"
    )
