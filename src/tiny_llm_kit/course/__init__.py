"""The course as data: its map, the skeleton, the suites, the known mistakes."""

from tiny_llm_kit.course.course_map import task

__all__ = ["task"]
