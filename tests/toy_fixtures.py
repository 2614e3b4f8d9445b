"""Fixtures of the days whose tests run on one toy model: a day's conftest imports them."""

import os

import pytest

from support import ToyModel

# On CUDA, MLX rounds the factors of float32 products to 10 bits unless told otherwise, and how it does depends on the number
# of rows: a row's tokens would depend on its company for a reason that is not the engine's. MLX looks at its first product.
os.environ.setdefault("MLX_ENABLE_TF32", "0")


@pytest.fixture(autouse=True)
def begin_test(toy: ToyModel) -> None:
    toy.begin_test()


@pytest.fixture(scope="session")
def toy() -> ToyModel:
    return ToyModel()
