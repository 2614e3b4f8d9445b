import numpy as np

SLAB = 64


def _per_word(bits: int) -> int:
    if bits not in (4, 8):
        raise ValueError(f"bits = {bits}, but only 4 and 8 divide a word")
    return 32 // bits


def pack(values: mx.array, bits: int) -> mx.array:
    count = _per_word(bits)
    if not mx.issubdtype(values.dtype, mx.integer):
        raise ValueError(f"pack takes integers, and these are {values.dtype}")
    numbers = np.array(values).astype(np.int64)
    if numbers.shape[-1] % count:
        raise ValueError(f"a row of {numbers.shape[-1]} does not end with a full word of {count}")
    misfits = numbers[numbers != numbers % 2**bits]
    if misfits.size:
        raise ValueError(f"{misfits.size} values do not fit into {bits} bits, {misfits[0]} for example")
    words = np.zeros((*numbers.shape[:-1], numbers.shape[-1] // count), dtype=np.int64)
    for place in range(count - 1, -1, -1):
        words = words * 2**bits + numbers[..., place::count]
    return mx.array(words.astype(np.uint32))


def unpack(words: mx.array, bits: int) -> mx.array:
    count = _per_word(bits)
    if words.dtype != mx.uint32:
        raise ValueError(f"{words.dtype} is not the dtype of words")
    rest = np.array(words)
    values = np.empty((*rest.shape[:-1], rest.shape[-1] * count), dtype=np.uint32)
    for place in range(count):
        rest, values[..., place::count] = np.divmod(rest, np.uint32(2**bits))
    return mx.array(values)


def quantize(w: mx.array, group_size: int = 64, bits: int = 4) -> QuantizedWeight:
    _per_word(bits)
    if group_size not in (32, 64, 128):
        raise ValueError(f"group_size = {group_size}")
    if not mx.issubdtype(w.dtype, mx.floating):
        raise ValueError(f"{w.dtype} is not floating")
    if len(w.shape) != 2 or w.shape[1] % group_size:
        raise ValueError(f"{w.shape} is not the shape of a matrix with rows of groups of {group_size}")
    numbers = np.array(w.astype(mx.float32))
    if not np.isfinite(numbers).all():
        raise ValueError("not every number is finite")
    rows, columns = numbers.shape
    groups = columns // group_size
    scales, biases = np.empty((2, rows, groups), dtype=np.float32)
    q = np.empty((rows, columns), dtype=np.int64)
    for row in range(rows):
        for group in range(groups):
            members = slice(group * group_size, (group + 1) * group_size)
            group_numbers = numbers[row, members]
            low, high = group_numbers.min(), group_numbers.max()
            scale, bias = (_stored(number, w.dtype) for number in ((high - low) / np.float32(2**bits - 1), low))
            levels = np.float64(scale) * np.arange(2**bits) + np.float64(bias)
            q[row, members] = np.abs(group_numbers[:, None] - levels).argmin(axis=1)
            scales[row, group], biases[row, group] = scale, bias
    if not np.isfinite(scales).all():
        raise ValueError("a group is too wide for its scale")
    stored = [mx.array(part).astype(w.dtype) for part in (scales, biases)]
    return QuantizedWeight(pack(mx.array(q), bits), stored[0], stored[1], group_size, bits)


def _stored(number: np.float32, dtype: mx.Dtype) -> float:
    return float(mx.array(float(number), dtype=mx.float32).astype(dtype).item())


def dequantize(weight: QuantizedWeight, dtype: mx.Dtype = mx.float32) -> mx.array:
    group_of = mx.arange(weight.shape[1]) // weight.group_size
    scales, biases = (mx.take(part, group_of, axis=1).astype(dtype) for part in (weight.scales, weight.biases))
    return unpack(weight.weight, weight.bits).astype(dtype) * scales + biases


class QuantizedLinear:
    def __call__(self, x: mx.array) -> mx.array:
        W = self.weight
        slabs = [
            QuantizedWeight(*(part[first : first + SLAB] for part in W.arrays), W.group_size, W.bits)
            for first in range(0, W.shape[0], SLAB)
        ]
        out = mx.concatenate([x @ dequantize(slab, x.dtype).swapaxes(0, 1) for slab in slabs], axis=-1)
        if self.bias is not None:
            out += self.bias
        return out
