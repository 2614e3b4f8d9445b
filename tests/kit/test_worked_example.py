"""The worked example in the chapter of week 3 day 4 is the one that the tests play."""

import worked_example
from tiny_llm_kit.course.course_map import find_root


def test_the_chapter_shows_the_plans_that_are_tested() -> None:
    chapter = (find_root() / "book/src/week3-04-token-budget-scheduler.md").read_text(encoding="utf-8")
    shown = "\n".join(" ".join(line.split()) for line in chapter.splitlines())
    for step, (plan, tokens) in enumerate(zip(worked_example.PLANS, worked_example.TOKENS, strict=True), 1):
        row = " ".join([str(step), *plan, str(tokens)])
        assert f"\n{row} " in shown, f"step {step} of tests/worked_example.py is not in the chapter: {row}"
    assert f"{sum(worked_example.TOKENS)} tokens" in chapter, "the chapter says how many tokens all steps compute"
    assert f"{sum(worked_example.TOKENS_WITH_CACHE)} tokens" in chapter, "and how many with a prefix cache"
