"""What `update` does: which files change on the way to a new version of the course, and what stands in the way.

Two merges are made of the learner's package: of what is committed, for the new commit, and of the files as they are. So what
was not committed before is not committed after.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tiny_llm_kit.course.backups import PACKAGE
from tiny_llm_kit.course.git import GONE, Git, Tree
from tiny_llm_kit.course.merging import merge
from tiny_llm_kit.course.swap import Change, read_or_none

NEW = ".new"
_PLAIN_FILES = ("100644", "100755")


@dataclass
class Update:
    """The way from commit `old` to `new` (made by then, but not yet the current one). `base`: where `ref` set out from.

    `clashes`: files in which lines of the learner's were kept where the new version has others.
    """

    ref: str
    base: str
    old: str
    wanted: str
    new: str = ""
    changes: dict[Path, Change] = field(default_factory=dict)
    clashes: list[Path] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to do."""
        return self.base == self.wanted


def plan_update(root: Path, ref: str | None) -> Update:
    """How to come to `ref`, by default to the upstream, which is fetched.

    Raises:
        ValueError: what the user has to do first.
        OSError: git failed, or the network.
    """
    git = Git(root)
    git.check_clone()
    ref = ref or git.upstream()
    old, wanted = git.commit("HEAD"), git.commit(ref)
    update = Update(ref, git.merge_base(old, wanted), old, wanted)
    if update.is_over:
        return update
    base, mine, new = (git.tree(commit) for commit in (update.base, old, wanted))
    committed: dict[Path, tuple[str, str]] = {}
    _plan_course(git, base, mine, new, update, committed)
    _plan_answers(git, base, mine, new, update, committed)
    _refuse_staged(git, mine, {**new, **committed})
    if update.base == old:
        update.new = wanted
    else:
        message = f"Update the course to {wanted[:10]}"
        update.new = git.write_commit(old, committed, (old, wanted), message)
    return update


def _plan_course(git: Git, base: Tree, mine: Tree, new: Tree, update: Update, committed: dict[Path, tuple[str, str]]) -> None:
    """All files but the learner's package: they are taken as they are, unless the learner has changed them, too."""
    paths = [path for path in sorted(base.keys() | new.keys()) if not path.is_relative_to(PACKAGE)]
    changed = [path for path in paths if base.get(path) != new.get(path)]
    present = git.blobs_of(changed)
    blocked = []
    for path in changed:
        mode, blob = new.get(path, GONE)
        was, is_committed = base.get(path, GONE), mine.get(path, GONE)
        if is_committed not in (was, (mode, blob)) or present[path] not in (was[1], is_committed[1], blob):
            blocked.append(path)
        elif mode and mode not in _PLAIN_FILES:
            raise ValueError(f"the new version has a link at {path}, which only git can make: `git merge {update.ref}`")
        committed[path] = (mode, blob)
        if present[path] != blob:
            content = git.checked_out(blob, path) if blob else None
            update.changes[path] = Change(read_or_none(git.root / path), content, 0o755 if mode == "100755" else 0o644)
    if blocked:
        names = "\n".join(f"  {path}" for path in blocked)
        raise ValueError(
            f"you have changed these files of the course, and so has the new version:\n{names}\n"
            f"Copy what you need of them, and give `git checkout {update.base[:10]} -- FILE` for each (commit that if your "
            "changes were committed). A file that is not the course's has to move. Nothing was changed"
        )


def _plan_answers(git: Git, base: Tree, mine: Tree, new: Tree, update: Update, committed: dict[Path, tuple[str, str]]) -> None:
    """The learner's package: three-way merges."""
    for path in sorted(base.keys() | new.keys()):
        if not path.is_relative_to(PACKAGE):
            continue
        was, wanted = base.get(path, GONE), new.get(path, GONE)
        if was == wanted:
            continue
        before, after = (git.read(blob) if blob else None for _, blob in (was, wanted))
        committed[path] = _merge_committed(git, mine.get(path, GONE), before, after, wanted, path)
        present = read_or_none(git.root / path)
        merged = merge(before, present, after, path)
        if merged.content != present:
            update.changes[path] = Change(present, merged.content)
        if merged.clash:
            update.clashes.append(path)
            beside = path.with_name(path.name + NEW)
            if after is not None and (there := read_or_none(git.root / beside)) != after:
                update.changes[beside] = Change(there, after)


def _merge_committed(
    git: Git, mine: tuple[str, str], before: bytes | None, after: bytes | None, wanted: tuple[str, str], path: Path
) -> tuple[str, str]:
    content = merge(before, git.read(mine[1]) if mine[1] else None, after, path).content
    if content is None:
        return GONE
    return (wanted[0] or mine[0], wanted[1] if content == after else git.write_blob(content))


def _refuse_staged(git: Git, committed: Tree, allowed: Mapping[Path, tuple[str, str]]) -> None:
    """ValueError for what was staged and is neither committed nor in a file: it would be lost."""
    index = git.index()
    odd = [path for path in index if index[path] not in (committed.get(path), allowed.get(path))]
    present = git.blobs_of(odd)
    if lost := [path for path in odd if index[path][1] != present[path]]:
        names = "\n".join(f"  {path}" for path in lost)
        raise ValueError(
            f"these are staged (`git add`) in another state than they are in now:\n{names}\nCommit or unstage them first"
        )
