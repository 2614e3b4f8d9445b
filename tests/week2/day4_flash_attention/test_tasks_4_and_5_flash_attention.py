"""Week 2 Day 4, tasks 4 and 5: flash attention, with and without matrices, against the formula in float64."""

import mlx.core as mx
import pytest

from answer import answer
from oracles import HALF
from week2.day4_flash_attention.flash_checks import (
    CASES,
    MATRICES,
    PLAIN,
    check_errors,
    check_formula,
    check_half,
    check_large_scores,
    check_order,
    check_row_alone,
    check_scale,
    check_traffic,
)
from week2.day4_flash_attention.kernel_checks import ORDERS


@pytest.mark.parametrize("case", CASES, ids=str)
def test_task_4_the_formula(case: tuple[int, int, int, int, int, int, bool]) -> None:
    check_formula(answer.flash_attention, case, PLAIN)


def test_task_4_a_given_scale() -> None:
    check_scale(answer.flash_attention)


@pytest.mark.parametrize("dtype", HALF)
def test_task_4_half_precision(dtype: mx.Dtype) -> None:
    check_half(answer.flash_attention, dtype)


def test_task_4_large_scores_do_not_overflow() -> None:
    check_large_scores(answer.flash_attention)


def test_task_4_tiles_are_shared_and_skipped() -> None:
    check_traffic(answer.flash_attention)


@pytest.mark.parametrize("order", ORDERS)
def test_task_4_any_order_of_threads(order: str) -> None:
    check_order(answer.flash_attention, order)


def test_task_4_a_row_alone_is_the_row_in_a_batch() -> None:
    check_row_alone(answer.flash_attention)


def test_task_4_what_does_not_fit_is_refused() -> None:
    check_errors(answer.flash_attention)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_task_5_the_formula(case: tuple[int, int, int, int, int, int, bool]) -> None:
    check_formula(answer.flash_attention_simdgroup, case, MATRICES)


def test_task_5_a_given_scale() -> None:
    check_scale(answer.flash_attention_simdgroup)


@pytest.mark.parametrize("dtype", HALF)
def test_task_5_half_precision(dtype: mx.Dtype) -> None:
    check_half(answer.flash_attention_simdgroup, dtype)


def test_task_5_large_scores_do_not_overflow() -> None:
    check_large_scores(answer.flash_attention_simdgroup)


def test_task_5_tiles_are_shared_and_skipped() -> None:
    check_traffic(answer.flash_attention_simdgroup)


@pytest.mark.parametrize("order", ORDERS)
def test_task_5_any_order_of_threads(order: str) -> None:
    check_order(answer.flash_attention_simdgroup, order)


def test_task_5_a_row_alone_is_the_row_in_a_batch() -> None:
    check_row_alone(answer.flash_attention_simdgroup)


def test_task_5_what_does_not_fit_is_refused() -> None:
    check_errors(answer.flash_attention_simdgroup)
