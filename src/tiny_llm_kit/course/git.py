"""The git commands that `update` needs. It reads a repository and makes objects; only `move_to` changes what a user sees."""

import io
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

GONE = ("", "")
_NOBODY = {
    f"GIT_{role}_{what}": f"course{at}"
    for role in ("AUTHOR", "COMMITTER")
    for what, at in (("NAME", ""), ("EMAIL", "@localhost"))
}
_UNDER_WAY = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply", "index.lock")

Tree = dict[Path, tuple[str, str]]
"""Mode and blob of each file."""


class GitFailed(OSError):
    """What git said."""


@dataclass(frozen=True)
class Git:
    root: Path

    def run(self, *arguments: str, input: bytes | None = None, environment: Mapping[str, str] = {}) -> bytes:
        """What it prints. GitFailed with what it says; FileNotFoundError if there is no git."""
        done = subprocess.run(
            ["git", "-C", str(self.root), *arguments],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **environment},
        )
        if done.returncode:
            raise GitFailed(done.stderr.decode(errors="replace").strip() or f"git {arguments[0]} failed")
        return done.stdout

    def text(self, *arguments: str) -> str:
        return self.run(*arguments).decode().strip()

    def ask(self, *arguments: str) -> str:
        """What it prints, "" if it fails."""
        try:
            return self.text(*arguments)
        except GitFailed:
            return ""

    def check_clone(self) -> None:
        """ValueError unless the root is that of a clone in which no merge or rebase is under way."""
        try:
            top = self.text("rev-parse", "--show-toplevel")
        except FileNotFoundError:
            raise ValueError("there is no git, by which new versions of the course come: install it first") from None
        except GitFailed as error:
            if "not a git repository" not in str(error):  # it belongs to another user, for example
                raise
            top = ""
        if not top or Path(top).resolve() != self.root.resolve():
            raise ValueError(f"{self.root} is not a clone of the course's repository, so there is nothing to update it from")
        if not self.ask("rev-parse", "--verify", "HEAD"):
            raise ValueError(f"{self.root} has no commit yet")
        places = self.text("rev-parse", *(word for name in _UNDER_WAY for word in ("--git-path", name))).splitlines()
        for name, place in zip(_UNDER_WAY, places, strict=True):
            if (self.root / place).exists():
                raise ValueError(f"git is in the middle of something ({name}): end that first, `git status` says how")

    def upstream(self) -> str:
        """Where new versions come from, freshly fetched: the branch's upstream, or the main branch of the remote.

        ValueError if there is neither; GitFailed if it cannot be reached.
        """
        main, branch = self.main_branch(), self.ask("symbolic-ref", "--short", "HEAD")
        own = self.ask("rev-parse", "--abbrev-ref", "@{upstream}")
        remotes = {self.ask("config", f"branch.{branch}.remote")} if own else set()
        remotes |= {main.partition("/")[0]}
        if not own and not main:
            raise ValueError("this branch has no upstream, and there is no remote: say where the new version is, by --from REF")
        for remote in sorted(remotes - {".", ""}):
            try:
                self.run("fetch", "--quiet", remote)
            except GitFailed as error:
                raise GitFailed(f"cannot fetch from {remote}, nothing was changed: {error}") from None
        return own or self.main_branch()  # a first fetch may have told which it is

    def main_branch(self) -> str:
        """The main branch of the remote `upstream`, or else of `origin`; "" if there is neither."""
        remotes = self.text("remote").split()
        remote = next((name for name in ("upstream", "origin") if name in remotes), "")
        return remote and (self.ask("rev-parse", "--abbrev-ref", f"{remote}/HEAD") or f"{remote}/main")

    def has_more(self, ref: str) -> bool:
        """Whether it has commits that are not in the current one."""
        return bool(self.ask("rev-list", "-1", f"HEAD..{ref}"))

    def commit(self, ref: str) -> str:
        """The id of a commit. ValueError if there is none of that name."""
        found = self.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        if not found:
            raise ValueError(f"there is no commit {ref!r} here: `git branch -a` lists branches, and `git fetch` gets new ones")
        return found

    def merge_base(self, one: str, other: str) -> str:
        """ValueError if the two have no common beginning."""
        if found := self.ask("merge-base", one, other):
            return found
        shallow = self.ask("rev-parse", "--is-shallow-repository") == "true"
        remedy = (
            "this clone is shallow, so give `git fetch --unshallow` first" if shallow else "is that a version of this course?"
        )
        raise ValueError(f"your version and the new one have no common beginning: {remedy}")

    def tree(self, commit: str) -> Tree:
        entries = self.run("ls-tree", "-r", "-z", commit).decode().split("\0")[:-1]
        return _entries(
            (info.split()[0], info.split()[2], path) for info, _, path in (entry.partition("\t") for entry in entries)
        )

    def index(self) -> Tree:
        entries = self.run("ls-files", "-s", "-z").decode().split("\0")[:-1]
        return _entries(
            (info.split()[0], info.split()[1], path) for info, _, path in (entry.partition("\t") for entry in entries)
        )

    def check_staged(self, *known: Tree) -> None:
        """ValueError for what is staged and is in none of these trees, nor in its file: a new index would lose it."""
        index = self.index()
        odd = [path for path, entry in index.items() if all(entry != tree.get(path) for tree in known)]
        present = self.blobs_of(odd)
        if lost := [path for path in odd if index[path][1] != present[path]]:
            raise ValueError(
                f"these are staged (`git add`) in another state than they are in now:\n{listed(lost)}\n"
                "Commit or unstage them first. Nothing was changed"
            )

    def read(self, blob: str) -> bytes:
        return self.run("cat-file", "blob", blob)

    def read_all(self, blobs: Iterable[str]) -> dict[str, bytes]:
        """Many of them at once, by their ids."""
        wanted = list(dict.fromkeys(blobs))
        output = io.BytesIO(self.run("cat-file", "--batch", input="".join(f"{blob}\n" for blob in wanted).encode()))
        contents = {}
        for blob in wanted:
            size = int(output.readline().split()[2])  # of "<id> blob <size>"
            contents[blob] = output.read(size)
            output.readline()
        return contents

    def checked_out(self, blob: str, path: Path) -> bytes:
        """What a checkout would write."""
        return self.run("cat-file", "--filters", f"--path={path.as_posix()}", blob)

    def blobs_of(self, paths: Iterable[Path]) -> dict[Path, str]:
        """The ids that the files would have if they were added, "" for those that are not there."""
        paths = list(paths)
        there = [path for path in paths if (self.root / path).is_file()]
        names = "".join(f"{path.as_posix()}\n" for path in there).encode()
        ids = self.run("hash-object", "--stdin-paths", input=names).decode().split() if there else []
        return dict.fromkeys(paths, "") | dict(zip(there, ids, strict=True))

    def write_blob(self, content: bytes) -> str:
        return self.run("hash-object", "-w", "--stdin", input=content).decode().strip()

    def write_commit(self, start: str, changes: Mapping[Path, tuple[str, str]], parents: Iterable[str], message: str) -> str:
        """A commit with the tree of `start` after the changes. Nothing points to it yet."""
        lines = [f"{mode or 0} {blob or '0' * 40}\t{path.as_posix()}\0" for path, (mode, blob) in changes.items()]
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            self.run("read-tree", start, environment=index)
            self.run("update-index", "-z", "--index-info", input="".join(lines).encode(), environment=index)
            tree = self.run("write-tree", environment=index).decode().strip()
        # Somebody who has never committed may have no name.
        identity = {} if self.ask("var", "GIT_COMMITTER_IDENT") else _NOBODY
        options = [option for parent in parents for option in ("-p", parent)]
        return self.run("commit-tree", tree, *options, "-m", message, environment=identity).decode().strip()

    def move_to(self, new: str, old: str) -> None:
        """Makes another commit the current one, without a look at the files."""
        self.run("read-tree", new)
        self.run("update-ref", "-m", "pdm run course", "HEAD", new, old)
        self.ask("update-index", "-q", "--refresh")


def listed(paths: Iterable[Path]) -> str:
    """One line for each."""
    return "\n".join(f"  {path}" for path in paths)


def _entries(rows: Iterable[tuple[str, str, str]]) -> Tree:
    return {Path(path): (mode, blob) for mode, blob, path in rows}
