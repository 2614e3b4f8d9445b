"""Brings back what a backup holds: the learner's package, and after an `update` the course as it was, too."""

from pathlib import Path

from tiny_llm_kit.course.backups import PACKAGE, Backup
from tiny_llm_kit.course.git import Git, GitFailed
from tiny_llm_kit.course.swap import Change
from tiny_llm_kit.course.workspace import carry_out, plan_restore

STAYS = "only src/tiny_llm is what it was; the rest of the course stays, since you have committed or updated after that update"


def restore_backup(root: Path, backup: Backup) -> tuple[Backup | None, dict[Path, Change], list[str]]:
    """The backup of the present state (None if nothing had to change), what was changed, and what else there is to say.

    Raises:
        ValueError: what the user has to do first.
        OSError: nothing was changed.
    """
    messages: list[str] = []
    head = _head(root) if backup.versions else ""
    old, new = backup.versions or ("", "")
    whole = head in (old, new)
    if backup.versions and not whole:
        messages.append(STAYS)
    moves = head == new != old
    if moves:
        Git(root).check_staged(Git(root).tree(head))
    changes = plan_restore(root, backup, keep=lambda path: not whole and not path.is_relative_to(PACKAGE))
    made = carry_out(root, changes, "restore", (head, old) if head and whole else ()) if changes else None
    if moves:
        Git(root).move_to(old, new)
        messages.append(f"the current commit is {old[:10]} again, and was {new[:10]}")
    return made, changes, messages


def _head(root: Path) -> str:
    try:
        return Git(root).ask("rev-parse", "HEAD")
    except (GitFailed, FileNotFoundError):
        return ""
