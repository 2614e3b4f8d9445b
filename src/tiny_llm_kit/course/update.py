"""What `update` does: which files change on the way to a new version of the course, and what stands in the way.

Two merges are made of the learner's package: of what is committed, for the new commit, and of the files as they are. So what
was not committed before is not committed after.
"""

from dataclasses import dataclass, field
from pathlib import Path

from tiny_llm_kit.course.backups import PACKAGE
from tiny_llm_kit.course.git import GONE, Git, Tree, listed
from tiny_llm_kit.course.merging import merge
from tiny_llm_kit.course.swap import Change, read_or_none

NEW = ".new"
_MODES = {"100644": 0o644, "100755": 0o755}


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
    planner = _Planner(git, update)
    planner.plan_course()
    planner.plan_answers()
    git.check_staged(planner.mine, {**planner.new, **planner.committed})
    update.new = wanted if update.base == old else planner.commit()
    return update


class _Planner:
    """`committed`: what the tree of the new commit has that the current one has not, as mode and blob."""

    def __init__(self, git: Git, update: Update) -> None:
        self.git = git
        self.update = update
        self.base, self.mine, self.new = (git.tree(commit) for commit in (update.base, update.old, update.wanted))
        changed = (path for path in self.base.keys() | self.new.keys() if self.base.get(path) != self.new.get(path))
        self.changed = sorted(changed)
        self.committed: dict[Path, tuple[str, str]] = {}

    def plan_course(self) -> None:
        """All files but the learner's package: they are taken as they are, unless the learner has changed them, too."""
        paths = [path for path in self.changed if not path.is_relative_to(PACKAGE)]
        present = self.git.blobs_of(paths)
        blocked = []
        for path in paths:
            was, mine, (mode, blob) = self.base.get(path, GONE), self.mine.get(path, GONE), self.new.get(path, GONE)
            if mine not in (was, (mode, blob)) or present[path] not in (was[1], mine[1], blob):
                blocked.append(path)
            elif mode and mode not in _MODES:
                raise ValueError(
                    f"the new version has a link at {path}, which only git can make: `git merge {self.update.ref}`"
                )
            self.committed[path] = (mode, blob)
            if present[path] != blob or mode != was[0]:
                content = self.git.checked_out(blob, path) if blob else None
                self.update.changes[path] = Change(read_or_none(self.git.root / path), content, _MODES.get(mode))
        if blocked:
            raise ValueError(
                f"you have changed these files of the course, and so has the new version:\n{listed(blocked)}\n"
                f"Copy what you need of them, and give `git checkout {self.update.base[:10]} -- FILE` for each (commit that if "
                "your changes were committed). A file that is not the course's has to move. Nothing was changed"
            )

    def plan_answers(self) -> None:
        """The learner's package: three-way merges."""
        for path in self.changed:
            if not path.is_relative_to(PACKAGE):
                continue
            before, committed, after = (self._read(tree, path) for tree in (self.base, self.mine, self.new))
            self.committed[path] = self._write(merge(before, committed, after, path).content, path)
            present = read_or_none(self.git.root / path)
            merged = merge(before, present, after, path)
            if merged.content != present:
                self.update.changes[path] = Change(present, merged.content)
            if merged.clash:
                self._lay_beside(path, after)

    def _read(self, tree: Tree, path: Path) -> bytes | None:
        blob = tree.get(path, GONE)[1]
        return self.git.read(blob) if blob else None

    def _write(self, content: bytes | None, path: Path) -> tuple[str, str]:
        if content is None:
            return GONE
        mode = self.new.get(path, GONE)[0] or self.mine.get(path, GONE)[0]
        return mode, self.git.write_blob(content)

    def _lay_beside(self, path: Path, content: bytes | None) -> None:
        self.update.clashes.append(path)
        beside = path.with_name(path.name + NEW)
        if content is not None and (there := read_or_none(self.git.root / beside)) != content:
            self.update.changes[beside] = Change(there, content)

    def commit(self) -> str:
        """The merge of the learner's commits and the new version. Nothing points to it yet."""
        old, wanted = self.update.old, self.update.wanted
        return self.git.write_commit(old, self.committed, (old, wanted), f"Update the course to {wanted[:10]}")
