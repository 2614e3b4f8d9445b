from tiny_llm_kit.course import task


class PowerOfTwoChoices:
    @task(week=3, day=7, number=1)
    def rank(self, request: RoutedRequest, living: list[str]) -> list[str]:
        ranking = self._random.sample(living, len(living))
        if len(ranking) > 1 and self.requests(ranking[1]) < self.requests(ranking[0]):
            ranking[:2] = ranking[1], ranking[0]
        return ranking
