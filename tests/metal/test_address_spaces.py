"""Pointers without an address space, in Metal that Apple's compiler is known to take: MLX's own headers."""

import re
from pathlib import Path

import mlx.core as mx

from metal_anywhere.address_spaces import find_bare_pointers

HEADERS = sorted((Path(mx.__file__).parent / "include/mlx/backend/metal/kernels").rglob("*.h"))


def test_there_is_none_in_the_kernels_of_mlx() -> None:
    found = {path.name: bare for path in HEADERS if (bare := list(find_bare_pointers(path.read_text("utf-8"))))}
    assert not found
    assert len(HEADERS) > 50


def test_those_that_lose_their_address_space_are_found() -> None:
    lost = found = 0
    for path in HEADERS:
        text, count = re.subn(
            r"\b(device|threadgroup) (?=(float|half|int|size_t|u?int\d+_t)\s?[*&])", "", path.read_text("utf-8")
        )
        lost += count
        found += len(list(find_bare_pointers(text)))
    assert lost > 100
    assert found == lost
