"""What the tests of routers share: requests that are only routed, and what every router must keep to."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from answer import answer

NAMES = ["ada", "bob", "cleo", "dan"]

_numbers = count()


def ask(prompt: int | Sequence[int] = 10, max_tokens: int = 5, session: str = "") -> Any:
    """A request with this many prompt tokens, which no other request begins with, or with these."""
    number = next(_numbers)
    tokens = [1_000_000 + number] * prompt if isinstance(prompt, int) else list(prompt)
    return answer.RoutedRequest(f"request {number}", tokens, max_tokens, session)


def tokens(length: int, first: int) -> list[int]:
    """A beginning that others may share: another `first`, other tokens from the first one on."""
    return [1000 * first + place for place in range(length)]


def send(router: Any, request: Any, replicas: Sequence[str] = NAMES) -> str:
    """Route a request, and count it where it goes."""
    ranked = router.choose(request, list(replicas))
    assert ranked, f"choose({list(replicas)}) ranks none, and all of them live"
    router.started(request, ranked[0])
    return str(ranked[0])


def assert_ranks(router: Any, replicas: Sequence[str], living: Sequence[str], request: Any = None) -> None:
    """All who live are ranked, each once."""
    __tracebackhide__ = True
    given = list(replicas)
    ranked = router.choose(request or ask(), given)
    assert sorted(ranked) == sorted(living), f"choose({list(replicas)}) must rank exactly {sorted(living)}, each once: {ranked}"
    assert given == list(replicas), "the list that choose is given belongs to the caller: it was changed"


def assert_keeps_the_laws(make: Callable[[], Any]) -> None:
    """What every router must keep to."""
    __tracebackhide__ = True
    router = make()
    for _ in range(20):
        assert_ranks(router, NAMES, NAMES)
        send(router, ask())
    assert_ranks(router, ["bob"], ["bob"])
    assert_ranks(router, ["dan", "ada", "dan", "dan", "ada"], ["ada", "dan"])
    assert_ranks(router, [], [])
    assert_ranks(router, ["eve", *NAMES], ["eve", *NAMES])
    router.died("cleo")
    for _ in range(10):
        assert_ranks(router, NAMES, ["ada", "bob", "dan"])
        send(router, ask())
    assert_ranks(router, ["cleo"], [])
    assert_ranks(router, ["ada", "bob"], ["ada", "bob"])
    assert_ranks(router, NAMES, ["ada", "bob", "dan"])
    router.died("never seen")
    router.died("cleo")
    assert_ranks(router, [*NAMES, "never seen"], ["ada", "bob", "dan"])
    router.died("ada")
    router.joined("cleo")
    router.joined("bob")
    assert_ranks(router, NAMES, ["bob", "cleo", "dan"])
    router.joined("ada")
    assert_ranks(router, NAMES, NAMES)
