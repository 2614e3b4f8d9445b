import numpy as np


def bytes_per_token(weights: Weights) -> int:
    read = 0
    for name, weight in weights.items():
        if name == EMBEDDING and HEAD in weights:
            read += weight.nbytes // weight.shape[0]
        else:
            read += weight.nbytes
    return read


def perplexity(model: Model, tokens: Sequence[int], window: int = 256) -> float:
    if window <= 0:
        raise ValueError(f"a window of {window} shows nothing")
    known = np.array(tokens, dtype=np.int64)
    if known.size <= 1:
        raise ValueError("there is no second token to predict")
    losses = np.zeros(known.size - 1, dtype=np.float32)
    for place in range(0, losses.size, window):
        targets = known[1:][place : place + window]
        seen = known[:-1][place : place + window]
        logits = np.array(model(mx.array(seen)[None])[0].astype(mx.float32))
        logits -= logits.max(axis=1, keepdims=True)
        losses[place : place + window] = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(targets.size), targets]
    return float(np.exp(losses.mean(dtype=np.float64)))
