"""One model in several formats: how many bytes the machine reads per token, how far off the weights are, and perplexity.

The truth that formats are held against is the full float32 matrix of what the model's file holds. It knows the names of week 2
day 2's tasks in an answer package, and the model.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import mlx.core as mx
import numpy as np

from tiny_llm_kit.models.load import LoadedModel
from tiny_llm_kit.models.quantized import QuantizedWeight, full_precision
from tiny_llm_kit.workloads.lists import LIGHTHOUSE as LIGHTHOUSE

COLUMNS = ["format", "read per token", "size", "error of weights", "perplexity"]
GROUP_SIZES = (128, 64, 32)


@dataclass(frozen=True)
class Format:
    """How parameters are stored: in `dtype`; where `bits` are given, matrices in groups; None, None: as in the file."""

    name: str
    dtype: mx.Dtype | None = None
    bits: int | None = None
    group_size: int | None = None

    def group_for(self, w: mx.array | QuantizedWeight) -> int | None:
        """The largest group, up to `group_size`, into which the rows of a matrix can be cut; None if it stays as it is."""
        if self.group_size is None or len(w.shape) != 2:
            return None
        return next((size for size in GROUP_SIZES if size <= self.group_size and w.shape[1] % size == 0), None)


FORMATS = [
    Format("float32", mx.float32),
    Format("float16", mx.float16),
    Format("as shipped"),
    *(Format(f"{b} bits, groups of {g}", mx.float16, b, g) for b, g in [(8, 64), (4, 32), (4, 64), (4, 128)]),
]


@dataclass(frozen=True)
class Row:
    """One format, measured. Sizes are in bytes; `error` is |w − truth| / |truth|, root mean squares over all matrices.

    In `odd_matrices` rows are not a multiple of the group size: they have smaller groups, or stay in float16.
    """

    format: str
    bytes_per_token: int
    size: int
    error: float
    perplexity: float
    matrices: int
    odd_matrices: int

    def cells(self) -> list[str]:
        sizes = [f"{size / 2**20:.1f} MiB" for size in (self.bytes_per_token, self.size)]
        return [self.format, *sizes, f"{self.error:.2%}", f"{self.perplexity:.2f}"]


class Report:
    """Measures formats of one model on one text.

    Args:
        answer: quantizes, unpacks and measures.
        loaded: the model, with `keep_quantized=True`.
        tokens: the text; see `read_text`.
    """

    def __init__(self, answer: ModuleType, loaded: LoadedModel, tokens: Sequence[int]) -> None:
        self.answer = answer
        self.loaded = loaded
        self.tokens = tokens
        self.truth = {name: full_precision(w) for name, w in loaded.weights.items()}
        self.matrices = [name for name, w in self.truth.items() if w.ndim == 2]

    def measure(self, form: Format) -> Row:
        """Products are computed in float32 in every format, so only the weights differ."""
        stored = {name: self._store(form, name) for name in self.truth}
        dense = {
            name: self.answer.dequantize(w) if isinstance(w, QuantizedWeight) else w.astype(mx.float32)
            for name, w in stored.items()
        }
        odd = [name for name in self.matrices if form.group_for(self.truth[name]) != form.group_size]
        return Row(
            form.name,
            self.answer.bytes_per_token(stored),
            sum(w.nbytes for w in stored.values()),
            relative_error((dense[name], self.truth[name]) for name in self.matrices),
            self.answer.perplexity(self.answer.Model(self.loaded.config, dense), self.tokens),
            len(self.matrices),
            len(odd),
        )

    def _store(self, form: Format, name: str) -> mx.array | QuantizedWeight:
        if form.dtype is None:
            return self.loaded.weights[name]
        w = self.truth[name].astype(form.dtype)  # scales and biases take the dtype of what is quantized
        group_size = form.group_for(w)
        return w if group_size is None else self.answer.quantize(w, group_size, form.bits)


def relative_error(pairs: Iterable[tuple[mx.array, mx.array]]) -> float:
    """√(Σ (got − truth)² / Σ truth²) over pairs of matrices (got, truth)."""
    sums = np.array([(_square_sum(got - truth), _square_sum(truth)) for got, truth in pairs]).sum(axis=0)
    return math.sqrt(sums[0] / sums[1])


def _square_sum(x: mx.array) -> float:
    # Rows in float32 and their sums in float64: one float32 sum over millions of numbers would lose most of its digits.
    return float(np.array(mx.square(x).sum(axis=-1)).sum(dtype=np.float64))


def read_text(path: Path) -> str:
    """The text to measure perplexity on; ValueError names a file that is not there, is not UTF-8, or says nothing."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot read the text {str(path)!r} ({error.strerror}): give a text file") from None
    except UnicodeDecodeError:
        raise ValueError(f"{str(path)!r} is not UTF-8: give a plain text file") from None
    if not text.strip():
        raise ValueError(f"{str(path)!r} is empty: write something to predict")
    return text
