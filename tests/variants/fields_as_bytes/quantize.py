def pack(values: mx.array, bits: int) -> mx.array:
    _shifts(bits)
    if not mx.issubdtype(values.dtype, mx.integer):
        raise ValueError(f"what is packed are integers, not {values.dtype}")
    if values.shape[-1] * bits % 32:
        raise ValueError(f"{values.shape[-1]} values are {values.shape[-1] * bits} bits, not a multiple of 32")
    for value in sorted({values.max().item(), values.min().item()}):
        if value not in range(1 << bits):
            raise ValueError(f"value {value} with {bits} bits")
    fields = values.astype(mx.uint8)
    if bits == 4:
        fields = mx.bitwise_or(fields[..., 0::2], fields[..., 1::2] << 4)
    return mx.contiguous(fields).view(mx.uint32)


def unpack(words: mx.array, bits: int) -> mx.array:
    _shifts(bits)
    if words.dtype != mx.uint32:
        raise ValueError(f"these are no words: {words.dtype}")
    fields = mx.contiguous(words).view(mx.uint8)
    if bits == 4:
        fields = mx.stack([fields & 15, fields >> 4], axis=-1).reshape(*fields.shape[:-1], -1)
    return fields.astype(mx.uint32)


def quantize(w: mx.array, group_size: int = 64, bits: int = 4) -> QuantizedWeight:
    if w.ndim != 2 or not mx.issubdtype(w.dtype, mx.floating):
        raise ValueError(f"a floating matrix is needed, not {w.dtype} {w.shape}")
    if bits not in SUPPORTED_BITS:
        raise ValueError(f"not with {bits} bits")
    if group_size not in GROUP_SIZES or w.shape[1] % group_size != 0:
        raise ValueError(f"no groups of {group_size} in rows of {w.shape[1]}")
    if mx.any(mx.isnan(w) | mx.isinf(w)):
        raise ValueError("a number is not finite")
    steps = 2**bits - 1
    members = mx.unflatten(w.astype(mx.float32), 1, (-1, group_size))
    bias = mx.min(members, axis=2, keepdims=True)
    scale = ((mx.max(members, axis=2, keepdims=True) - bias) / steps).astype(w.dtype)
    if mx.any(mx.isinf(scale)):
        raise ValueError(f"a range has no scale in {w.dtype}")
    wide = scale.astype(mx.float32)
    q = mx.zeros(members.shape, dtype=mx.int32)
    for step in range(steps):
        q = q + (members > wide * (step + 0.5) + bias)
    return QuantizedWeight(pack(q.reshape(w.shape), bits), scale[:, :, 0], bias[:, :, 0].astype(w.dtype), group_size, bits)


def dequantize(weight: QuantizedWeight, dtype: mx.Dtype = mx.float32) -> mx.array:
    fields = mx.split(unpack(weight.weight, weight.bits), weight.scales.shape[1], axis=1)
    parts = [
        weight.scales[:, [group]].astype(dtype) * field.astype(dtype) + weight.biases[:, [group]].astype(dtype)
        for group, field in enumerate(fields)
    ]
    return mx.concatenate(parts, axis=1)


class QuantizedLinear:
    def __call__(self, x: mx.array) -> mx.array:
        W, rows = self.weight, x.reshape(-1, x.shape[-1])
        y = mx.zeros((rows.shape[0], W.shape[0]), dtype=x.dtype)
        per_group = W.group_size * W.bits // 32
        for group in range(W.scales.shape[1]):
            words = W.weight[:, group * per_group : (group + 1) * per_group]
            x_group = rows[:, group * W.group_size : (group + 1) * W.group_size]
            scales, biases = (part[:, group].astype(x.dtype) for part in (W.scales, W.biases))
            y += (x_group @ unpack(words, W.bits).astype(x.dtype).T) * scales
            y += x_group.sum(axis=1, keepdims=True) * biases
        return y.reshape(*x.shape[:-1], -1) + (0.0 if self.bias is None else self.bias)
