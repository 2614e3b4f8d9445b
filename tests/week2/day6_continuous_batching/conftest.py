"""The models that the tests of this day share."""

import os
from pathlib import Path

import pytest

from support import RealModel, ToyModel

# On CUDA, MLX rounds the factors of float32 products to 10 bits unless told otherwise, and how it does depends on the number
# of rows: a row's tokens would depend on its company for a reason that is not the engine's. MLX looks at its first product.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

WORKING_ORDER = ("1", "5", "6", "2", "8", "7", "4_plan", "4_runner", "4", "4_ahead", "3", "9")
"""The tasks as the chapter does them, "4" being what is neither of its other parts. The numbers are names."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests run in the working order, so that `-x` stops at the next thing to do; `--first` comes after this, and over it."""
    places = [place for place, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    in_order = sorted((items[place] for place in places), key=_turn)
    for place, item in zip(places, in_order, strict=True):
        items[place] = item


def _turn(item: pytest.Item) -> int:
    task = max((task for task in WORKING_ORDER if item.name.startswith(f"test_task_{task}_")), key=len)
    return WORKING_ORDER.index(task)


@pytest.fixture(autouse=True)
def begin_test(toy: ToyModel) -> None:
    toy.begin_test()


@pytest.fixture(scope="session")
def toy() -> ToyModel:
    return ToyModel()


@pytest.fixture(scope="session")
def real() -> RealModel:
    return RealModel()
