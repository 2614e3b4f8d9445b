"""A request that is told its state, and reads its whole text for stop strings."""

from typing import Any

from tiny_llm_kit.course import task


class Request:
    _state = "waiting"
    _said = ""
    _all_asked_for = False

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "finish_reason" and value is not None:
            self._state = "finished"
        elif name in ("offset", "kv_cache", "max_tokens") and self._is_complete():
            self._move_on()

    def _is_complete(self) -> bool:
        """Whether its fields are there, which are set one after another."""
        return "generated_tokens" in vars(self)

    def _move_on(self) -> None:
        self._all_asked_for = self.offset - len(self.prompt) + 1 >= self.max_tokens
        if self._state == "finished":
            return
        if self.offset >= len(self.prompt):
            self._state = "decoding"
        elif self.offset or self.kv_cache is not None:
            self._state = "prefilling"
        else:
            self._state = "waiting"

    @property
    @task(week=2, day=6, number=1)
    def state(self) -> str:
        return self._state

    @property
    @task(week=2, day=6, number=1)
    def all_launched(self) -> bool:
        return self._all_asked_for

    @task(week=2, day=6, number=1)
    def accept(self, token: int) -> bool:
        if self.state == "finished":
            raise RuntimeError(f"request {self.request_id} has ended: it takes no token {token}")
        if token in self.eos_token_ids:
            self.finish("stop")
            return False
        self.generated_tokens = [*self.generated_tokens, token]
        if self.detokenizer is not None:
            self.detokenizer.add_token(token)
            self._said += self.detokenizer.last_segment
            place = self._find_stop()
            if place is not None:
                self.text = self._said[:place]
                self.finish("stop")
                return True
            self.text = self._said[: self._safe_length()]
        if len(self.generated_tokens) >= self.max_tokens:
            self.finish("length")
        return True

    @task(week=2, day=6, number=1)
    def finish(self, reason: str, error: BaseException | None = None) -> None:
        if self.state == "finished":
            if error is not None and self.error is None:
                self.finish_reason, self.error = reason, error
            return
        if error is None and self.detokenizer is not None and self._find_stop() is None:
            self.detokenizer.finalize()
            self._said += self.detokenizer.last_segment
            self.text = self._said[: self._find_stop()]
        self.kv_cache = None
        self.error = error
        self.finish_reason = reason

    def _find_stop(self) -> int | None:
        places = [self._said.index(stop) for stop in self.stop if stop in self._said]
        return min(places) if places else None

    def _safe_length(self) -> int:
        """Without the end of the text with which a stop string could begin."""
        for start in range(len(self._said)):
            if any(stop.startswith(self._said[start:]) for stop in self.stop):
                return start
        return len(self._said)
