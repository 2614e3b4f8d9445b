"""Least squares in which nothing may be negative: what fits a sum of costs to measured times."""

import numpy as np

_ROUNDING = 1e-10


def nonnegative_least_squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The x ≥ 0 `(n,)` for which |a x − b| is least; a is `(m, n)`, b `(m,)`.

    Lawson and Hanson, "Solving Least Squares Problems" (1974), chapter 23: some of x are free and the others are 0. Whichever
    would help most is freed, and whichever would fall below 0 is held at 0 again. Where several x are equally good, it is one
    of them.
    """
    lengths = np.linalg.norm(a, axis=0)
    lengths = np.where(lengths > 0, lengths, 1)
    a = a / lengths  # then columns of any unit can be compared
    x = np.zeros(a.shape[1])
    free = np.zeros(a.shape[1], dtype=bool)
    for _ in range(10 * len(x)):  # it ends by itself, except for rounding
        gain = np.where(free, 0, a.T @ (b - a @ x))
        if gain.max() <= _ROUNDING * np.linalg.norm(b):
            break
        free[gain.argmax()] = True
        x = _solve_free(a, b, x, free)
    return x / lengths


def _solve_free(a: np.ndarray, b: np.ndarray, x: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The best x among the free ones; on the way there, those that reach 0 are free no more."""
    while True:
        best = np.zeros_like(x)
        best[free] = np.linalg.lstsq(a[:, free], b, rcond=None)[0]
        falling = free & (best <= 0)
        if not falling.any():
            return best
        distances = np.full_like(x, np.inf)
        distances[falling] = x[falling] / (x[falling] - best[falling])
        x = x + distances.min() * (best - x)
        free[distances.argmin()] = False
