"""What the tests of day 4's kernels share.

What is about numbers runs on whatever this machine has: Metal, CUDA, or the CPU runner. What is about memory traffic or the
order of threads asks for the CPU runner, which counts and can shuffle.
"""

from collections import Counter
from collections.abc import Callable

import mlx.core as mx

from metal_anywhere import cpu_runner
from oracles import normal
from support import refuses

Attention = Callable[..., mx.array]
Qkv = tuple[mx.array, mx.array, mx.array]

ORDERS = ["ascending", "descending", "shuffled"]
ROUNDED_ONCE = {mx.float16: 1.05 * 2**-11, mx.bfloat16: 1.05 * 2**-8}
"""Half of the distance to the next number, relative to the number, and a little for the float32 arithmetic before it. What is
rounded more than once is off by more, if not everywhere. For results much larger than 1: `assert_close` adds 1 to them."""


def barrier_hint(order: str) -> str:
    """Where to look when a kernel is wrong in this order of threads."""
    return (
        f"with the threads in {order} order: if the other tests pass, a barrier is missing between the writing of threadgroup "
        "memory and the reading"
    )


def in_order(order: str, compute: Callable[[], mx.array]) -> mx.array:
    """What `compute` gives on the CPU runner when the threads run in this order."""
    with cpu_runner(order=order, seed=1):
        out = compute()
        mx.eval(out)
    return out


def bytes_read(compute: Callable[[], mx.array]) -> dict[str, int]:
    """How many bytes `compute` reads of each input of its kernels, by name."""
    with cpu_runner() as launches:
        mx.eval(compute())
    read: Counter[str] = Counter()
    for launch in launches:
        read.update({name: traffic.bytes_read for name, traffic in launch.buffers.items()})
    return read


def make_qkv(
    batch: int, heads: int, kv_heads: int, length: int, total: int, dim: int, dtype: mx.Dtype = mx.float32, size: float = 1.0
) -> Qkv:
    q = normal(batch, heads, length, dim, seed=1, size=size, dtype=dtype)
    k, v = (normal(batch, kv_heads, total, dim, seed=seed, dtype=dtype) for seed in (2, 3))
    return q, k, v


def check_refusals(attend: Attention, length: int, unsupported_dim: int) -> None:
    """Head counts, head dimensions, shapes and dtypes that no attention kernel takes."""
    for dims, name in [((2, 3, 2, length, 8, 32), "3 query heads"), ((2, 2, 2, length, 8, 48), "48")]:
        with refuses(ValueError, f"shapes (B, H, KV, L, S, D) = {dims} are not supported", name):
            attend(*make_qkv(*dims))
    with refuses(ValueError, f"a head dimension of {unsupported_dim} is not supported", str(unsupported_dim)):
        attend(*make_qkv(2, 2, 2, length, 8, unsupported_dim))
    q, k, v = make_qkv(2, 2, 2, length, 8, 32)
    with refuses(ValueError, "q, k and v must have the same dtype", "float16"):
        attend(q, k.astype(mx.float16), v)
    with refuses(ValueError, "k has 8 positions and v has 7: compare their shapes", "7"):
        attend(q, k, v[:, :, :7])
