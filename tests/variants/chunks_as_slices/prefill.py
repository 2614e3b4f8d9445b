def chunk_bounds(length: int, step: int) -> Iterator[tuple[int, int]]:
    if step <= 0:
        raise ValueError(f"step = {step}: there would be no end of chunks")
    full, rest = divmod(length, step)
    bounds = [(i * step, (i + 1) * step) for i in range(full)]
    if rest:
        bounds.append((length - rest, length))
    return iter(bounds)


def prefill_chunk(model: Model, prompt: Sequence[int], start: int, end: int, cache: Sequence[KvCache]) -> mx.array | None:
    piece = mx.expand_dims(mx.array(list(prompt)[start:end]), 0)
    if end < len(prompt):
        model(piece, offset=cache[0].offset, cache=cache, logits_to_keep=0)
        for layer in cache:
            mx.async_eval(layer.keys, layer.values)
        return None
    logits = model(piece, offset=cache[0].offset, cache=cache, logits_to_keep=1)
    return logits.reshape(-1)


def prefill(model: Model, prompt: Sequence[int], cache: Sequence[KvCache], step: int = 128) -> mx.array:
    if not len(prompt):
        raise ValueError("nothing to prefill: give at least one token")
    *inner, (start, end) = chunk_bounds(len(prompt), step)
    for bounds in inner:
        prefill_chunk(model, prompt, *bounds, cache)
    logits = prefill_chunk(model, prompt, start, end, cache)
    assert logits is not None
    return logits
