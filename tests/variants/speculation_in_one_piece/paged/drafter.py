"""What a text repeats is noticed while it is read; a small model's drafts are read one by one."""

from collections.abc import Sequence

import mlx.core as mx

from tiny_llm_kit.course import task


class NgramDrafter:
    @task(week=3, day=5, number=1)
    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        seen = self._known
        if len(tokens) < seen or list(tokens[seen - len(self._tail) : seen]) != self._tail:
            self._follower, self._tail, seen = {}, [], 0
        if not seen:
            self._found: int | None = None
        for token in tokens[seen:]:
            seen += 1
            self._tail = [*self._tail, token][-self.max_n :]
            self._found = None
            for n in range(self.min_n, len(self._tail) + 1):  # the longest comes last, and decides
                before, self._follower[gram] = self._follower.get(gram := tuple(self._tail[-n:])), seen
                self._found = self._found if before is None else before
        self._known = seen
        drafts: list[int] = []
        while self._found is not None and len(drafts) < count:
            place = self._found + len(drafts)
            drafts.append(tokens[place] if place < seen else drafts[place - seen])
        return drafts


class ModelDrafter:
    @task(week=3, day=5, number=6)
    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        if len(tokens) == 0:
            return []
        drafts: list[int] = []
        while len(drafts) < count:
            wanted = [*tokens, *drafts]
            equal = 0
            while equal < min(len(self._computed), len(wanted) - 1) and self._computed[equal] == wanted[equal]:
                equal += 1
            self._computed = self._computed[:equal]
            for layer in self._cache:
                if layer.offset > equal:
                    layer.rewind(layer.offset - equal)
            logits = self.model(mx.array(wanted[equal:])[None], equal, self._cache, logits_to_keep=1)
            drafts.append(int(logits[0, -1].argmax()))
            self._computed = wanted
        return drafts
