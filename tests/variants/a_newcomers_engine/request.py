from dataclasses import dataclass

from tiny_llm_kit.course import task


@dataclass(eq=False)
class Request:
    @property
    @task(week=2, day=6, number=1)
    def state(self) -> str:
        if self.finish_reason is not None:
            return "finished"
        if self.offset == 0 and self.kv_cache is None:
            return "waiting"
        return "prefilling" if self.offset < len(self.prompt) else "decoding"

    @task(week=2, day=6, number=1)
    def accept(self, token: int) -> bool:
        if self.finish_reason is not None:
            raise RuntimeError(f"request {self.request_id} has finished ({self.finish_reason}) and takes no more tokens")
        if token in self.eos_token_ids:
            self.finish("stop")
            return False
        self.generated_tokens.append(token)
        stopped = False
        if self.text_stream is not None:
            self.text += self.text_stream.push(token)
            stopped = self.text_stream.stopped
        if stopped:
            self.finish("stop")
        elif len(self.generated_tokens) == self.max_tokens:
            self.finish("length")
        return True

    @task(week=2, day=6, number=1)
    def finish(self, reason: str, error: BaseException | None = None) -> None:
        if self.finish_reason is not None:
            if self.error is None and error is not None:
                self.finish_reason, self.error = reason, error
            return
        self.finish_reason, self.error, self.kv_cache = reason, error, None
        if error is None and self.text_stream is not None:
            self.text += self.text_stream.finish()
