"""The counts by which tests find scans and copies: small things stay small, and what goes through a whole list shows."""

from collections.abc import Callable

import pytest

from effort import Watched, effort

LARGE = 100_000


@pytest.mark.parametrize(
    "compute",
    [
        lambda items: items.pop(),
        lambda items: items.append(items.pop()),
        lambda items: [items[i] for i in (1, 5)],
        lambda items: len(items),
        lambda items: [items.pop() for _ in range(3)],
    ],
)
def test_what_touches_a_few_elements_costs_little(compute: Callable[[list[int]], object]) -> None:
    items = list(range(LARGE))
    assert effort(lambda: compute(items)) < 2000


@pytest.mark.parametrize(
    "compute",
    [
        lambda items: items.pop(0),
        lambda items: items.insert(0, 1),
        lambda items: items.remove(LARGE // 2),
        lambda items: items.index(LARGE // 2),
        lambda items: items[1:],
        lambda items: set(items),
        lambda items: sorted(items),
        lambda items: [item for item in items if item > 7],
        lambda items: sum(1 for item in items if item > 7),
    ],
)
def test_what_goes_through_a_list_shows(compute: Callable[[list[int]], object]) -> None:
    items = list(range(LARGE))
    assert effort(lambda: compute(items)) > LARGE / 2


def test_what_is_raised_gets_out_and_nothing_is_traced_any_more() -> None:
    with pytest.raises(ZeroDivisionError):
        effort(lambda: 1 / 0)
    assert effort(lambda: None) < 200


def test_comparisons_are_counted() -> None:
    items = [Watched(i) for i in range(100)]
    Watched.compared = 0
    assert 99 in items
    assert Watched.compared >= 99
    assert {items[3]: 1}[3] == 1, "it stands in a dictionary like the number that it is"
