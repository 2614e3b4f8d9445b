"""A request that is being recorded, and what it holds of the memory for keys and values."""

from math import ceil

from tiny_llm_kit.timeline.run import Life, Stay


class Living:
    """A request that has not ended: its life, and what it holds."""

    def __init__(self, life: Life, kept: bool) -> None:
        self.life = life
        self.kept = kept
        self.stay: Stay | None = None
        self.found = 0  # tokens that it found in a prefix cache
        self.computed = 0  # tokens, after its last chunk
        self.chunk_step = -1

    def known(self, step: int) -> int:
        """Tokens whose keys and values are there for it: those up to its last chunk, and one for each decode step since."""
        decoded = step - self.chunk_step if self.computed >= self.life.prompt_tokens else 0
        return self.computed + decoded

    def tokens(self, step: int) -> int:
        """Those of them that it computed itself."""
        return self.known(step) - self.found

    def blocks(self, step: int, size: int) -> int:
        """Blocks that it holds alone: room for all its prompt, from the beginning, but for whole blocks that it found."""
        return ceil(max(self.known(step), self.life.prompt_tokens) / size) - self.found // size
