"""A session of pytest that hears which tests it is about once it has begun: forks of it need not begin, each anew.

To load pytest's plugins and its settings takes longer than most of the tests that runs on wrong answers need.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.junitxml import bin_xml_escape, xml_key

from tiny_llm_kit.course.session import Notes, write_ending


@dataclass(frozen=True)
class Choice:
    """`tests` as pytest's command line names them, of which those with `keyword` are run, and the paths of what is written."""

    tests: list[str]
    keyword: str
    note: str
    report: str

    @property
    def arguments(self) -> list[str]:
        """The same for a session that has not begun; the note is no business of pytest's."""
        return [*self.tests, "-k", self.keyword, f"--junitxml={self.report}"]


class _Beginning:
    """A plugin of pytest that comes last of those that begin a session."""

    def __init__(self, choose: Callable[[], Choice]) -> None:
        self.choose = choose
        self.note: Path | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        bin_xml_escape("")  # compiles a large pattern, which each fork would
        choice, config = self.choose(), session.config
        config.args = choice.tests
        config.option.keyword = choice.keyword
        config.stash[xml_key].logfile = choice.report
        self.note = Path(choice.note)
        config.pluginmanager.register(Notes(self.note))


def run(arguments: list[str], choose: Callable[[], Choice]) -> int:
    """pytest's exit code for a session that begins with these arguments, and goes on when `choose` returns.

    That may be in a fork of this process, so nothing is captured but what goes through `sys.stdout` and `sys.stderr`, and a
    crash is not described: both would need file descriptors that forks share.
    """
    plugin = _Beginning(choose)
    shared = ["--capture=sys", "-p", "no:faulthandler", f"--junitxml={os.devnull}"]
    code = int(pytest.main([*arguments, *shared], plugins=[plugin]))
    if plugin.note:
        write_ending(plugin.note, code)
    return code
