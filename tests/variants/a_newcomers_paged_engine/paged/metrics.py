from dataclasses import dataclass

from tiny_llm_kit.course import task

from ..metrics import BatchingMetrics


@dataclass
class PagedMetrics(BatchingMetrics):
    @property
    @task(week=3, day=4, number=6)
    def prefix_cache_hit_rate(self) -> float:
        if not self.prefix_cache_queries:
            return 0.0
        return self.prefix_cache_hits / self.prefix_cache_queries
