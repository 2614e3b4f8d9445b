def chunk_bounds(length: int, step: int) -> Iterator[tuple[int, int]]:
    if step < 1:
        raise ValueError(f"a chunk of {step} tokens")
    start = 0
    while length - start > step:
        yield start, start + step
        start += step
    if start != length:
        yield start, length


def prefill_chunk(model: Model, prompt: Sequence[int], start: int, end: int, cache: Sequence[KvCache]) -> mx.array | None:
    at_end = end >= len(prompt)
    places = mx.array([end - start - 1] if at_end else [], dtype=mx.int32)
    logits = model(mx.array(prompt[start:end])[None, :], mx.array([start]), cache, logits_to_keep=places)
    stored = [array for layer in cache for array in (layer.values, layer.keys)]
    if at_end:
        mx.async_eval(logits, *stored)
        return logits.squeeze((0, 1))
    mx.async_eval(*stored)
    return None


def prefill(model: Model, prompt: Sequence[int], cache: Sequence[KvCache], step: int = 128) -> mx.array:
    if step < 1 or len(prompt) == 0:
        raise ValueError(f"a prompt of {len(prompt)} tokens can't be prefilled in steps of {step}")
    end = 0
    while True:
        start, end = end, min(end + step, len(prompt))
        logits = prefill_chunk(model, prompt, start, end, cache)
        if logits is not None:
            return logits
