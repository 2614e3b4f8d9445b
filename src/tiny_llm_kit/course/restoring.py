"""Brings back what a backup holds: the learner's package, and after an `update` the course as it was, too."""

from pathlib import Path

from tiny_llm_kit.course.backups import Backup
from tiny_llm_kit.course.swap import Change
from tiny_llm_kit.course.workspace import carry_out, plan_restore


def restore_backup(root: Path, backup: Backup) -> tuple[Backup | None, dict[Path, Change], list[str]]:
    """The backup of the present state (None if nothing had to change), what was changed, and what else there is to say."""
    changes = plan_restore(root, backup, keep=lambda path: False)
    if not changes:
        return None, {}, []
    return carry_out(root, changes, "restore"), changes, []
