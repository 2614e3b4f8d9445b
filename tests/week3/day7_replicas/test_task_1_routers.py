"""Week 3 Day 7, task 1: routers that know only what they have sent: by turns, by two choices, by tokens to come."""

from collections import Counter
from typing import Any

import pytest

from answer import answer
from routing import NAMES, ask, assert_keeps_the_laws, assert_ranks, send

ROUTERS = ["RoundRobin", "PowerOfTwoChoices", "LeastTokens"]


@pytest.mark.parametrize("kind", ROUTERS)
def test_task_1_all_who_live_are_ranked_and_each_once(kind: str) -> None:
    assert_keeps_the_laws(getattr(answer, kind))


@pytest.mark.parametrize("kind", ROUTERS)
def test_task_1_what_is_sent_counts_until_it_has_ended(kind: str) -> None:
    router = getattr(answer, kind)()
    first, second = ask(30, 8), ask(4, 2)
    for request in (first, second):
        router.started(request, "ada")
    assert (router.requests("ada"), router.tokens("ada")) == (2, 44), "each counts with its prompt and its longest answer"
    assert (router.requests("bob"), router.tokens("bob")) == (0, 0), "nothing was sent to bob"
    router.progressed(first, "ada", 1)
    assert router.tokens("ada") == 7 + 6, "a token has come back: the prompt is computed, and 7 of 8 tokens are to come"
    router.progressed(first, "ada", 3)
    assert router.tokens("ada") == 4 + 6, "three more of its tokens have come back"
    router.finished(first, "ada")
    assert (router.requests("ada"), router.tokens("ada")) == (1, 6), "a short answer has ended: nothing of it is to come"
    router.finished(second, "ada")
    assert (router.requests("ada"), router.tokens("ada")) == (0, 0), "both have ended"


def test_task_1_choosing_alone_counts_nothing() -> None:
    router = answer.LeastTokens()
    for _ in range(3):
        router.choose(ask(), NAMES)
    assert [router.requests(name) for name in NAMES] == [0] * 4, "a choice is no start: a replica that was ranked may refuse"


def test_task_1_an_end_counts_once() -> None:
    router = answer.LeastTokens()
    ended, other = ask(10, 5), ask(20, 5)
    for request in (ended, other):
        router.started(request, "ada")
    router.finished(ended, "ada")
    router.finished(ended, "ada")
    router.progressed(ended, "ada", 2)
    router.finished(other, "bob")
    router.progressed(other, "bob", 2)
    router.finished(ask(), "nobody")
    router.progressed(ask(), "nobody", 1)
    assert (router.requests("ada"), router.tokens("ada")) == (1, 25), (
        "a second end, a token after the end, and what comes from where a request was not sent change nothing"
    )
    assert (router.requests("bob"), router.tokens("bob")) == (0, 0), "bob was sent nothing"


def test_task_1_more_tokens_than_expected_are_no_debt() -> None:
    router = answer.LeastTokens()
    request, other = ask(10, 3), ask(10, 5)
    router.started(request, "ada")
    router.started(other, "ada")
    router.progressed(request, "ada", 7)
    assert router.tokens("ada") == 15, "7 of 3 tokens have come: none of them is to come, and the other's 15 still are"
    router.finished(request, "ada")
    assert router.tokens("ada") == 15, "its end releases what was left of it, which is nothing"


def test_task_1_starting_again_counts_once() -> None:
    router = answer.LeastTokens()
    request = ask(10, 5)
    router.started(request, "ada")
    router.progressed(request, "ada", 1)
    router.started(request, "ada")
    assert (router.requests("ada"), router.tokens("ada")) == (1, 15), (
        "sent to the same replica again: it is one request, all to do"
    )


def test_task_1_a_start_elsewhere_is_no_end() -> None:
    router = answer.LeastTokens()
    request = ask(10, 5)
    router.started(request, "ada")
    router.started(request, "bob")
    assert [router.tokens(name) for name in NAMES[:2]] == [15, 15], (
        "ada has not said that it has ended there: until then, the request counts at ada and at bob"
    )
    router.finished(request, "ada")
    assert [router.tokens(name) for name in NAMES[:2]] == [0, 15], "it has ended at ada, and goes on at bob"


def test_task_1_a_death_releases_everything_and_an_old_end_nothing_more() -> None:
    router = answer.LeastTokens()
    lost, other = ask(50, 5), ask(30, 5)
    router.started(lost, "ada")
    router.started(other, "bob")
    router.died("ada")
    assert (router.requests("ada"), router.tokens("ada")) == (0, 0), "what the dead had to do, it does no more"
    router.started(lost, "bob")
    router.finished(lost, "ada")
    router.progressed(lost, "ada", 3)
    assert (router.requests("bob"), router.tokens("bob")) == (2, 90), (
        "the request was sent to bob after ada's death: what is heard of ada late must not touch what counts at bob"
    )
    router.started(ask(), "ada")
    router.joined("ada")
    assert (router.requests("ada"), router.tokens("ada")) == (0, 0), "ada is back, and has nothing to do"
    assert router.choose(ask(), NAMES[:2])[0] == "ada", "so ada is first"


def test_task_1_turns_go_round() -> None:
    router, names = answer.RoundRobin(), ["dan", "ada", "cleo", "bob"]
    firsts = [router.choose(ask(), names)[0] for _ in range(9)]
    for start in range(6):
        window = firsts[start : start + 4]
        assert sorted(window) == sorted(names), f"of four choices in a row each must be first once: {firsts}"
    ranked = router.choose(ask(), names)
    place = names.index(ranked[0])
    assert ranked == [*names[place:], *names[:place]], "those who come next in the list are next in the ranking"


def test_task_1_turns_do_not_look_at_loads() -> None:
    router = answer.RoundRobin()
    router.started(ask(100_000), "ada")
    assert Counter(send(router, ask()) for _ in range(8)) == dict.fromkeys(NAMES, 2), "each is chosen equally often"


@pytest.mark.parametrize("replicas", [NAMES[:3], NAMES])
def test_task_1_turns_go_round_after_a_death(replicas: list[str]) -> None:
    router = answer.RoundRobin()
    for _ in range(2):
        router.choose(ask(), replicas)
    router.died("ada")
    firsts = Counter(router.choose(ask(), replicas)[0] for _ in range(4 * (len(replicas) - 1)))
    assert firsts == dict.fromkeys(replicas[1:], 4), f"each of the others is first equally often: {firsts}"


def test_task_1_of_two_choices_the_one_with_fewer_requests_is_first() -> None:
    router = answer.PowerOfTwoChoices(seed=3)
    for number, name in enumerate(NAMES):
        for _ in range(number):
            router.started(ask(1000 * (4 - number)), name)
    firsts, lasts = Counter[str](), Counter[str]()
    for _ in range(600):
        ranked = router.choose(ask(), NAMES)
        firsts[ranked[0]] += 1
        lasts[ranked[-1]] += 1
    share = {name: firsts[name] / 600 for name in NAMES}
    expected = {"ada": 3 / 6, "bob": 2 / 6, "cleo": 1 / 6, "dan": 0}  # of the 6 pairs
    assert share == pytest.approx(expected, abs=0.08), (
        f"two are drawn, each pair equally often, and the one with fewer requests is first, whatever their tokens are: ada wins"
        f" 3 of the 6 pairs, dan none. Shares: {share}"
    )
    assert min(lasts[name] for name in NAMES) > 0, f"after the two, the order is random: last came {dict(lasts)}"


def test_task_1_two_choices_are_spread_where_loads_are_equal() -> None:
    router = answer.PowerOfTwoChoices()
    firsts = Counter(router.choose(ask(), NAMES)[0] for _ in range(400))
    assert all(60 < firsts[name] < 140 for name in NAMES), f"no replica has anything to do, so each is first at times: {firsts}"
    firsts = Counter(router.choose(ask(), NAMES[:2])[0] for _ in range(400))
    assert all(140 < firsts[name] < 260 for name in NAMES[:2]), f"the same with two of them: {firsts}"


def test_task_1_two_choices_are_drawn_from_the_seed() -> None:
    def choices(**options: Any) -> list[list[str]]:
        router = answer.PowerOfTwoChoices(**options)
        return [router.choose(ask(), NAMES) for _ in range(20)]

    assert choices(seed=5) == choices(seed=5), "the same seed, the same choices"
    assert choices(seed=5) != choices(seed=6), "another seed, others"
    assert choices() == choices(), "without a seed that is given: always the same, so that a run can be repeated"


def test_task_1_two_choices_even_out_what_chance_does_not() -> None:
    """600 requests that never end, over 20 replicas: by chance alone some get half as many again as the mean."""
    router, names = answer.PowerOfTwoChoices(seed=1), [f"replica {number}" for number in range(20)]
    for _ in range(600):
        send(router, ask(), names)
    most = max(router.requests(name) for name in names)
    assert most <= 33, f"the mean is 30, and with two choices none is far above it: {most}"


def test_task_1_the_fewest_tokens_are_first_and_not_the_fewest_requests() -> None:
    router = answer.LeastTokens()
    router.started(ask(1000, 100), "ada")
    for _ in range(5):
        router.started(ask(20, 10), "bob")
    router.started(ask(10, 300), "cleo")
    router.started(ask(400, 10), "dan")
    assert router.choose(ask(), NAMES) == ["bob", "cleo", "dan", "ada"], (
        "tokens to come: bob 150 in five requests, cleo 310, dan 410, ada 1100. A long answer counts as a long prompt does"
    )


def test_task_1_what_has_come_back_is_no_load() -> None:
    router = answer.LeastTokens()
    long, short = ask(2000, 10), ask(20, 10)
    router.started(long, "ada")
    router.started(short, "bob")
    assert router.choose(ask(), NAMES[:2]) == ["bob", "ada"], "ada has a long prompt to compute"
    router.progressed(long, "ada", 4)
    assert router.choose(ask(), NAMES[:2]) == ["ada", "bob"], "ada has computed it, and only 6 tokens are to come"


@pytest.mark.parametrize("ends", [False, True])
def test_task_1_ties_are_spread(ends: bool) -> None:
    """SGLang #32983: where all are idle, each request went to the first of the list."""
    router, got = answer.LeastTokens(), Counter[str]()
    for _ in range(12):
        request = ask()
        name = send(router, request)
        got[name] += 1
        if ends:
            router.finished(request, name)
    assert got == dict.fromkeys(NAMES, 3), f"equal loads take turns: the one whose last start is longest ago is first. {got}"


def test_task_1_a_burst_is_spread() -> None:
    """SGLang #27547: loads that count only when an answer begins send a whole burst to one replica."""
    router = answer.LeastTokens()
    got = Counter(send(router, ask(100)) for _ in range(40))
    assert got == dict.fromkeys(NAMES, 10), f"no answer has begun, and what was sent counts all the same: {got}"


def test_task_1_a_new_replica_is_first() -> None:
    router = answer.LeastTokens()
    for _ in range(8):
        send(router, ask())
    assert router.choose(ask(), ["eve", *NAMES])[0] == "eve", "a replica that is new has nothing to do"
    assert_ranks(router, ["eve"], ["eve"])


def test_task_1_a_router_of_ones_own_ranks_only_those_who_live() -> None:
    seen = []

    class Alphabet(answer.Router):  # type: ignore[misc, name-defined]
        def rank(self, request: Any, living: list[str]) -> list[str]:
            seen.append(sorted(living))
            return sorted(living)

    router = Alphabet()
    router.died("bob")
    assert router.choose(ask(), ["dan", "bob", "ada", "dan"]) == ["ada", "dan"], "`choose` returns what `rank` ranks"
    assert seen == [["ada", "dan"]], "`rank` is asked once, and given only those who live, each once"
