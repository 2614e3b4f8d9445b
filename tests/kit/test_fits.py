"""Least squares without negative numbers, fitted costs as files, and machines as published."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_llm_ref as ref
from tiny_llm_kit.bench.fits import fit_as_json, fit_best, fit_rows, load_fit, weight_names
from tiny_llm_kit.bench.least_squares import nonnegative_least_squares
from tiny_llm_kit.machine.published import published_machines

FIT = ref.FittedCost((0.05, 0.001, 0.003, 0.002, 0.0, 1e-5, 2e-8), (8, 32), 0.04, launch_waits=True)


@pytest.mark.parametrize("seed", range(20))
def test_least_squares_meet_the_conditions_of_the_best(seed: int) -> None:
    """Karush, Kuhn, Tucker: a number above 0 cannot be improved, and one at 0 only by going below it."""
    random = np.random.default_rng(seed)
    a, b = random.standard_normal((40, 7)) * 10.0 ** random.integers(-4, 5, size=7), random.standard_normal(40)
    a[:, seed % 7] = 0  # what never occurs
    x = nonnegative_least_squares(a, b)
    slope = a.T @ (a @ x - b) / np.maximum(np.linalg.norm(a, axis=0), 1)
    assert (x >= 0).all()
    assert np.abs(slope[x > 0]).max(initial=0) < 1e-8
    assert slope[x == 0].min(initial=0) > -1e-8


def test_least_squares_find_what_was_put_in() -> None:
    random = np.random.default_rng(0)
    a, x = random.random((30, 5)), np.array([3.0, 0.0, 1e-6, 0.0, 2.0])
    np.testing.assert_allclose(nonnegative_least_squares(a, a @ x), x, atol=1e-9)
    assert (nonnegative_least_squares(-a, a @ x) == 0).all(), "nothing but 0 is left where all would have to be negative"


def test_least_squares_of_equal_columns() -> None:
    column = np.arange(1.0, 9.0)
    x = nonnegative_least_squares(np.stack([column, column], axis=1), 3 * column)
    assert x.sum() == pytest.approx(3)


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("bends", [(), (8,), (8, 32)])
def test_a_fit_goes_to_a_file_and_back(tmp_path: Path, bends: tuple[int, ...]) -> None:
    fit = ref.FittedCost(tuple(range(5 + len(bends))), bends, 0.04, launch_waits=bool(bends))
    assert load_fit(ref, write(tmp_path / "fit.json", {"fit": fit_as_json(fit), "model": "tiny"})) == fit


def test_weights_have_names() -> None:
    assert weight_names((8, 32)) == ["call", "token 1 to 8", "token 9 to 32", "token from 33 on", "output", "key", "pair"]
    assert weight_names(()) == ["call", "token", "output", "key", "pair"]
    assert fit_rows(FIT)[0] == ["call", "50,000.00"]
    assert fit_rows(FIT)[-1] == ["pair", "0.02"]


GOOD = fit_as_json(FIT)


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"fit": None},
        {"fit": {**GOOD, "bends": [8]}},
        {"fit": {**GOOD, "bends": "many"}},
        {"fit": {**GOOD, "seconds_per": {**GOOD["seconds_per"], "call": -1}}},
        {"fit": {**GOOD, "seconds_per": {**GOOD["seconds_per"], "call": "long"}}},
        {"fit": {name: value for name, value in GOOD.items() if name != "launch_waits"}},
        {"fit": {**GOOD, "seconds_per": {**GOOD["seconds_per"], "call": float("nan")}}},
        {"fit": {**GOOD, "seconds_per": {**GOOD["seconds_per"], "call": 1e300}}},
        {"fit": {**GOOD, "seconds_per": dict.fromkeys(GOOD["seconds_per"], 0)}},
        {"fit": {**GOOD, "error": float("inf")}},
        {"fit": fit_as_json(replace(FIT, bends=(32, 8)))},
    ],
)
def test_a_file_that_holds_no_fit_is_refused(tmp_path: Path, document: Any) -> None:
    path = write(tmp_path / "results.json", document)
    with pytest.raises(ValueError, match=r"results\.json' holds no fitted cost: name a fit\.json"):
        load_fit(ref, path)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*nowhere\.json"):
        load_fit(ref, tmp_path / "nowhere.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"deep\.json' holds no fitted cost"):
        load_fit(ref, tmp_path / "deep.json")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ValueError, match=r"image\.png' holds no fitted cost"):
        load_fit(ref, tmp_path / "image.png")


def test_of_two_ways_to_read_a_run_the_one_that_fits_is_taken() -> None:
    """Times that belong to the iteration before fit worse."""
    random = np.random.default_rng(0)
    calls = [[ref.decode_call(int(rows), int(longest))] for rows, longest in random.integers(1, 200, size=(40, 2))]
    seconds = [FIT.seconds(one) for one in calls]
    right, wrong = ref.StepWork(launch_waits=True), ref.StepWork()
    right.iterations = list(zip(calls, seconds, strict=True))
    wrong.iterations = list(zip(calls, [*seconds[1:], 0.1], strict=True))
    fit = fit_best(ref, [wrong, right])
    assert fit.launch_waits
    assert fit.error < 1e-6


def test_machines_as_published() -> None:
    machines = published_machines()
    families = [f"m{generation}{size}" for generation in (1, 2, 3, 4) for size in ("", "-pro", "-max", "-ultra")]
    families.remove("m4-ultra")  # there is none
    assert set(machines) >= {*families, "h100", "h200"}
    for name, machine in machines.items():
        assert machine.source, f"who says what {name} can do?"
        assert 60e9 <= machine.bandwidth <= 5e12
        assert 2e12 <= machine.flops <= 1e15
    assert machines["h100"].flops == machines["h200"].flops == 989e12, "the same units, with another memory"
    for generation in (1, 2, 3, 4):
        family = [machine for name, machine in machines.items() if name.startswith(f"m{generation}")]
        assert family == sorted(family, key=lambda machine: machine.flops), "larger chips compute more"
        assert family == sorted(family, key=lambda machine: machine.bandwidth), "and read more"
