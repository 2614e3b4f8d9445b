from tiny_llm_kit.models.quantized import QuantizedWeight


def bytes_per_token(weights: Weights) -> int:
    arrays = {
        name: list(weight.arrays) if isinstance(weight, QuantizedWeight) else [weight] for name, weight in weights.items()
    }
    if weights.get(HEAD) is not None:
        arrays[EMBEDDING] = [array[0] for array in arrays[EMBEDDING]]
    return sum(array.size * array.itemsize for several in arrays.values() for array in several)


def perplexity(model: Model, tokens: Sequence[int], window: int = 256) -> float:
    left = list(tokens)
    if len(left) < 2 or window < 1:
        raise ValueError(f"{len(left)} tokens, seen through a window of {window}: nothing is predicted")
    log_likelihoods: list[float] = []
    while len(left) > 1:
        seen = left[:-1][:window]
        scores = model(mx.array([seen])).astype(mx.float32)
        scores = scores - mx.max(scores, axis=-1, keepdims=True)
        normalizer = mx.log(mx.sum(mx.exp(scores), axis=-1))
        for place, target in enumerate(left[1 : len(seen) + 1]):
            log_likelihoods.append((scores[0, place, target] - normalizer[0, place]).item())
        left = left[len(seen) :]
    return math.exp(-math.fsum(log_likelihoods) / len(log_likelihoods))
