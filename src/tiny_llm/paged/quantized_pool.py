"""Keys and values in 8 or 4 bits: a third of the memory, or a fifth, so the same memory holds more tokens.

What one head keeps for one token, D numbers, is stored as a row of words: for each group of neighbours its integers, followed
by its scale and its bias. A group lies within one head's numbers for one token, so a token is quantized once, on its own, and
nothing that comes later changes it. To the pool a row is a row: writing in place, gathering blocks and copying them are
inherited from `PagedKvCache`, and do not depend on what the words mean.
"""

import mlx.core as mx

from tiny_llm_kit.course import task

from .paged_kv_cache import PagedKvCache
from .ragged_batch import Group

GROUP_SIZE = 32
SUPPORTED_BITS = (4, 8)


def check_quantized(bits: int, dim: int, group_size: int = GROUP_SIZE) -> None:
    """Raise ValueError unless heads of `dim` numbers can be stored in this many bits, in groups of `group_size`."""
    if bits not in SUPPORTED_BITS:
        raise ValueError(f"kv_bits is {bits}: keys and values are stored in 4 or 8 bits, or as they are (None)")
    if group_size < 8 or group_size % 8:
        raise ValueError(f"group_size is {group_size}: it must be a multiple of 8, so that a group fills words without a rest")
    if dim % group_size:
        raise ValueError(
            f"heads of {dim} numbers can't be cut into groups of {group_size}: leave kv_bits out (None) for this model"
        )


@task(week=3, day=5, number=7)
def quantize_rows(x: mx.array, bits: int, group_size: int = GROUP_SIZE) -> mx.array:
    """Replace each group of `group_size` neighbours by integers q, a scale and a bias: x ≈ scale · q + bias.

    As in week 2 day 2, bias is the smallest number of the group and scale is (largest − smallest) / (2^bits − 1), both in the
    dtype of `x`; q is the integer from 0 to 2^bits − 1 that comes nearest with both as they are stored. A group that holds NaN
    or infinity becomes NaN. Nothing is read back: this is part of every step.

    Args:
        x: `(..., D)`, float32, float16 or bfloat16.
    Returns:
        uint32 `(..., W)`: for each group its integers, the first one in the lowest bits, then scale and bias. A row of zeros
        stands for zeros.
    Raises:
        ValueError: for bits other than 4 and 8, or a D that is not a multiple of `group_size`.
    """
    raise NotImplementedError("Week 3 Day 5, task 7: keys and values in 8 and 4 bits. Read book/src/week3-05-speculation.md")


@task(week=3, day=5, number=7)
def dequantize_rows(rows: mx.array, bits: int, group_size: int, dtype: mx.Dtype) -> mx.array:
    """What `quantize_rows` stands for: uint32 `(..., W)` to `(..., D)`, scale · q + bias, computed in float32.

    Args:
        dtype: of what was quantized, and therefore of scales, biases, and the result.
    """
    raise NotImplementedError("Week 3 Day 5, task 7: keys and values in 8 and 4 bits. Read book/src/week3-05-speculation.md")


class QuantizedKvCache(PagedKvCache):
    """One layer's keys and values in a few bits: two pools `(KV, num_blocks · block_size, W)` of uint32; see `quantize_rows`.

    Only what a step gathers is turned back into numbers, and only for this step. There is no `paged_attention`: such a kernel
    reads pools of plain numbers.

    Args:
        num_blocks, block_size: see `PagedKvCache`.
        bits: 4 or 8.
        group_size: numbers that share a scale and a bias, a multiple of 8.
    Raises:
        ValueError: for other bits or group sizes; `write` raises it for heads that can't be cut into groups.
    """

    def __init__(self, num_blocks: int, block_size: int, bits: int, group_size: int = GROUP_SIZE) -> None:
        check_quantized(bits, group_size, group_size)
        super().__init__(num_blocks, block_size)
        self.bits = bits
        self.group_size = group_size
        self.dtype = mx.float32  # of the keys and values; `write` sets it

    @task(week=3, day=5, number=7)
    def write(self, k: mx.array, v: mx.array) -> None:
        """See `PagedKvCache`; what is put into the slots is quantized. `fresh` slots stand for 0."""
        raise NotImplementedError(
            "Week 3 Day 5, task 7: keys and values in 8 and 4 bits. Read book/src/week3-05-speculation.md"
        )

    @task(week=3, day=5, number=7)
    def fetch(self, table: mx.array) -> tuple[mx.array, mx.array]:
        """See `PagedKvCache`: keys and values in their own dtype, `(rows, KV, blocks · block_size, D)`."""
        raise NotImplementedError(
            "Week 3 Day 5, task 7: keys and values in 8 and 4 bits. Read book/src/week3-05-speculation.md"
        )

    @task(week=3, day=5, number=7)
    def _fetch_group(self, group: Group) -> tuple[mx.array, mx.array]:
        """`fetch`, of the group's table."""
        raise NotImplementedError(
            "Week 3 Day 5, task 7: keys and values in 8 and 4 bits. Read book/src/week3-05-speculation.md"
        )

    @task(week=3, day=5, number=7)
    def _numbers(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Rows of keys and values `(..., W)` as numbers `(..., D)`."""
        raise NotImplementedError(
            "Week 3 Day 5, task 7: keys and values in 8 and 4 bits. Read book/src/week3-05-speculation.md"
        )

    @property
    @task(week=3, day=5, number=7)
    def bytes_per_token(self) -> int:
        """How much of this layer's memory a token takes, keys and values with scales and biases; 0 before anything was
        written."""
        raise NotImplementedError(
            "Week 3 Day 5, task 7: keys and values in 8 and 4 bits. Read book/src/week3-05-speculation.md"
        )
