"""A newer version of the course comes in, around what a learner wrote, and nothing that he wrote is lost."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kit.small_course import edit, run_git, write, write_small_course
from tiny_llm_kit.cli.course import main
from tiny_llm_kit.course import backups, swap
from tiny_llm_kit.course.course_map import load_course
from tiny_llm_kit.course.git import Git
from tiny_llm_kit.course.merging import merge
from tiny_llm_kit.course.skeleton import generate
from tiny_llm_kit.course.skeleton import write as write_skeleton

STUB = '    raise NotImplementedError("Week 1 Day 1, task 1: double. Read book/src/doubling.md")'
MINE = "    # adding is faster\n    return x + x"
NUMBERS = Path("src/tiny_llm/numbers.py")


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True).stdout.strip()


def commit(root: Path, message: str = "more") -> str:
    run_git(root, "add", "-A")
    run_git(root, "commit", "-qm", message)
    return git(root, "rev-parse", "HEAD")


def tree(root: Path) -> dict[str, bytes]:
    files = git(root, "ls-files", "-co", "--exclude-standard").splitlines()
    return {name: (root / name).read_bytes() for name in files if (root / name).is_file()}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course and a newer version of it: HEAD~1 and HEAD of a repository."""
    root = write_small_course(tmp_path_factory.mktemp("published") / "course")
    for folder in ("src/tiny_llm_kit", "src/metal_anywhere"):
        shutil.rmtree(root / folder)
    (root / ".gitignore").write_text(".course/\n__pycache__/\n")
    write_skeleton(root, generate(root, load_course(root)))
    edit(root / "book/src/doubling.md", "`double`\n", "`double`\n\n```sh\n# no heading\n```\n\nOnce.\n")
    run_git(root, "init", "-qb", "main")
    commit(root, "the first version")
    edit(root / NUMBERS, '"""Twice `x`."""', '"""Twice `x`, exactly."""')
    edit(root / NUMBERS, "return x // 2", "return x >> 1")
    edit(root / "tests/week1/test_day1_doubling.py", "== [3, 2, 1]", "== [3, 2, 1] != [1, 2, 3]")
    edit(root / "course.toml", '"double", "count down"', '"double", "count down", "negate"')
    edit(root / "course.toml", 'title = "Doubling"', 'title = "Doubling"\n  hints.9 = ["of another kind"]')
    with (root / NUMBERS).open("a") as file:
        file.write(
            "\n\n@task(1, 1, 3)\ndef negate(x: int) -> int:\n    raise NotImplementedError('Week 1 Day 1, task 3: negate')\n"
        )
    edit(root / "book/src/doubling.md", "Once.", "Twice.")
    write(root / "book/src/new.md", "# New\n")
    (root / "tests/mistakes/numbers.toml").unlink()
    commit(root, "the second version")
    return root


@pytest.fixture(scope="module")
def cloned(published: Path) -> Path:
    """A folder with `origin`, which has the second version, and `clone`, which has the first. Both can be copied."""
    folder = published.parent
    origin, root = folder / "origin", folder / "clone"
    git(folder, "clone", "-q", "--template=", str(published), str(origin))
    git(origin, "reset", "-q", "--hard", "HEAD~1")
    git(folder, "clone", "-q", "--template=", "--branch", "main", str(origin), str(root))
    git(root, "remote", "set-url", "origin", "../origin")
    git(origin, "reset", "-q", "--hard", "origin/main")
    return folder


@pytest.fixture
def clone(cloned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A learner's clone of the first version; the second can be fetched."""
    root = tmp_path / "clone"
    for name in ("origin", "clone"):
        shutil.copytree(cloned / name, tmp_path / name)
    monkeypatch.setattr("tiny_llm_kit.cli.course.opened.find_root", lambda: root)
    monkeypatch.setattr("tiny_llm_kit.cli.course.opened.load_course", lambda root: None)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("EMAIL", "")
    return root


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["update", *arguments])


def succeed(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    return done.output


def write_double(root: Path) -> None:
    edit(root / NUMBERS, STUB, MINE)


def check_new(root: Path) -> None:
    """All that is new is there, and what was written, too."""
    text = (root / NUMBERS).read_text()
    assert f'"""Twice `x`, exactly."""\n{MINE}\n' in text
    assert "return x >> 1" in text
    assert "def negate" in text
    assert (root / "book/src/new.md").exists()
    assert not (root / "tests/mistakes/numbers.toml").exists()


def test_an_untouched_clone_becomes_the_new_version(clone: Path) -> None:
    output = succeed()
    assert git(clone, "rev-parse", "HEAD") == git(clone, "rev-parse", "origin/main")
    assert git(clone, "status", "--porcelain") == ""
    assert "Week 1 Day 1, signature or docstring, chapter: task 1 (double)\n" in output
    assert "Week 1 Day 1, tests: task 2 (count down)\n" in output
    assert "Week 1 Day 1, new: task 3 (negate)\n" in output
    assert "Week 1 Day 2" not in output
    assert "up to date" in succeed()


def test_what_is_not_committed_is_kept_and_not_committed(clone: Path) -> None:
    write_double(clone)
    write(clone / "src/tiny_llm/notes.txt", "my notes\n")
    succeed()
    check_new(clone)
    assert git(clone, "rev-parse", "HEAD") == git(clone, "rev-parse", "origin/main")
    assert git(clone, "status", "--porcelain").splitlines() == ["M src/tiny_llm/numbers.py", "?? src/tiny_llm/notes.txt"]
    assert git(clone, "diff", "--cached") == ""


def test_what_is_committed_on_a_branch_without_upstream_is_merged(clone: Path) -> None:
    git(clone, "switch", "-qc", "mine")
    write_double(clone)
    before = commit(clone)
    edit(clone / NUMBERS, "faster", "as fast")
    succeed()
    parents = git(clone, "log", "-1", "--format=%P").split()
    assert parents == [before, git(clone, "rev-parse", "origin/main")]
    assert MINE in git(clone, "show", f"HEAD:{NUMBERS}")
    assert git(clone, "status", "--porcelain") == "M src/tiny_llm/numbers.py"
    edit(clone / NUMBERS, "as fast", "faster")
    check_new(clone)
    assert git(clone, "status", "--porcelain") == ""
    assert "up to date" in succeed()


def test_lines_that_both_have_changed_stay_and_the_new_file_is_laid_beside(clone: Path) -> None:
    write_double(clone)
    edit(clone / NUMBERS, "return x // 2", "return int(x / 2)  # mine")
    output = succeed()
    text = (clone / NUMBERS).read_text()
    assert "return int(x / 2)  # mine" in text
    assert MINE in text
    assert "src/tiny_llm/numbers.py: compare with src/tiny_llm/numbers.py.new" in output
    assert "return x >> 1" in (clone / "src/tiny_llm/numbers.py.new").read_text()


def test_a_file_that_is_no_python_for_now_stays(clone: Path) -> None:
    write(clone / NUMBERS, "def double(x:\n")
    output = succeed()
    assert (clone / NUMBERS).read_text() == "def double(x:\n"
    assert "numbers.py.new" in output


@pytest.mark.parametrize("committed", [False, True])
def test_other_files_that_both_have_changed_are_named(clone: Path, committed: bool) -> None:
    edit(clone / "tests/week1/test_day1_doubling.py", "look at double", "look here")
    edit(clone / "README.md", "# Numbers", "# My numbers")
    write(clone / "book/src/new.md", "# Mine\n")
    if committed:
        commit(clone)
    before = tree(clone)
    output = refused()
    assert "  book/src/new.md\n  tests/week1/test_day1_doubling.py\n" in output
    assert "README" not in output
    assert tree(clone) == before
    git(clone, "checkout", "-q", git(clone, "merge-base", "HEAD", "origin/main"), "--", "tests")
    (clone / "book/src/new.md").unlink()
    if committed:
        commit(clone)
    else:
        git(clone, "reset", "-q")
    write_double(clone)
    succeed()
    check_new(clone)
    assert "# My numbers" in (clone / "README.md").read_text()


def test_what_is_staged_alone_is_not_thrown_away(clone: Path) -> None:
    write_double(clone)
    run_git(clone, "add", ".")
    edit(clone / NUMBERS, "faster", "slower")
    assert "  src/tiny_llm/numbers.py\n" in refused()
    run_git(clone, "add", ".")
    succeed()
    assert "adding is slower" in (clone / NUMBERS).read_text()


def test_restore_takes_an_update_back_and_can_be_undone(clone: Path) -> None:
    write_double(clone)
    before, head = tree(clone), git(clone, "rev-parse", "HEAD")
    succeed()
    after = tree(clone)
    name = backups.list_all(clone)[0].name
    done = CliRunner().invoke(main, ["restore", name])
    assert done.exit_code == 0, done.output
    assert tree(clone) == before
    assert git(clone, "rev-parse", "HEAD") == head
    assert git(clone, "status", "--porcelain") == "M src/tiny_llm/numbers.py"
    done = CliRunner().invoke(main, ["restore", backups.list_all(clone)[-1].name])
    assert tree(clone) == after
    assert git(clone, "rev-parse", "HEAD") == git(clone, "rev-parse", "origin/main")


def test_restore_throws_nothing_away_that_is_staged_alone(clone: Path) -> None:
    write_double(clone)
    succeed()
    run_git(clone, "add", ".")
    edit(clone / NUMBERS, "faster", "slower")
    before = tree(clone)
    done = CliRunner().invoke(main, ["restore", backups.list_all(clone)[0].name])
    assert done.exit_code == 2
    assert "  src/tiny_llm/numbers.py\n" in done.output
    assert tree(clone) == before
    assert "faster" in git(clone, "show", f":{NUMBERS}")


def test_a_map_of_another_kind_is_no_obstacle(clone: Path) -> None:
    origin = clone.parent / "origin"
    write(origin / "course.toml", "week = 'all of it'\n")
    commit(origin)
    write_double(clone)
    assert "cannot tell" in succeed()
    check_new(clone)


def test_after_another_commit_restore_brings_back_the_package_alone(clone: Path) -> None:
    write_double(clone)
    succeed()
    commit(clone)
    done = CliRunner().invoke(main, ["restore", backups.list_all(clone)[0].name])
    assert "only src/tiny_llm is what it was" in done.output
    assert "exactly" not in (clone / NUMBERS).read_text()
    assert MINE in (clone / NUMBERS).read_text()
    assert (clone / "book/src/new.md").exists()


class Killed(BaseException):
    """What no program can catch, as far as a test can have it."""


def test_an_update_that_is_killed_anywhere_can_be_given_again(
    clone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_double(clone)
    commit(clone)
    saved = tmp_path / "saved"
    shutil.copytree(clone, saved)
    steps = 0

    def may_be_killed(real: Callable[..., None]) -> Callable[..., None]:
        def stand_in(*arguments: object) -> None:
            nonlocal steps
            steps -= 1
            if steps == 0:
                raise Killed
            real(*arguments)

        return stand_in

    for last in range(1, 20):
        shutil.rmtree(clone)
        shutil.copytree(saved, clone)
        steps = last
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(swap, "_go_back", lambda *_: None)  # who is killed does not go back
            patch.setattr(os, "replace", may_be_killed(os.replace))
            patch.setattr(Git, "move_to", may_be_killed(Git.move_to))
            run()
        if steps > 0:
            break
        succeed()
        check_new(clone)
        assert git(clone, "status", "--porcelain") == ""
    assert last > 4


@pytest.mark.parametrize("arguments", [["--from", "origin/nonsense"], ["--from", "--all"]])
def test_what_is_no_commit_is_refused(clone: Path, arguments: list[str]) -> None:
    assert "there is no commit" in refused(*arguments)


def test_without_a_network_it_says_so_and_what_was_fetched_can_be_taken(clone: Path) -> None:
    git(clone, "fetch", "-q")
    (clone.parent / "origin").rename(clone.parent / "away")
    before = tree(clone)
    done = run()
    assert done.exit_code == 1
    assert "cannot fetch from origin, nothing was changed" in done.output
    assert tree(clone) == before
    write_double(clone)
    succeed("--from", "origin/main")
    check_new(clone)


def test_who_follows_a_branch_of_his_own_is_told_of_the_courses(clone: Path) -> None:
    git(clone, "switch", "-qc", "mine")
    git(clone, "push", "-qu", "origin", "mine")
    assert "update --from origin/main" in succeed()
    git(clone, "remote", "rename", "origin", "upstream")
    git(clone, "config", "branch.mine.merge", "refs/heads/mine")
    assert "update --from upstream/main" in succeed()
    succeed("--from", "upstream/main")
    assert "has more" not in succeed()


def test_a_clone_that_git_does_not_trust_is_a_clone(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    done = run()
    assert done.exit_code == 1
    assert "safe.directory" in done.output


def test_without_a_remote_it_asks_for_one(clone: Path) -> None:
    git(clone, "remote", "remove", "origin")
    assert "--from REF" in refused()


def test_a_merge_under_way_has_to_end_first(clone: Path) -> None:
    (clone / ".git/MERGE_HEAD").write_text(git(clone, "rev-parse", "HEAD") + "\n")
    assert "MERGE_HEAD" in refused()


def test_without_git_or_outside_of_a_clone_it_says_so(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(clone / ".git")
    assert "is not a clone" in refused()
    monkeypatch.setenv("PATH", "")
    assert "there is no git" in refused()


# one file

BASE = '''\
from tiny_llm_kit.course import task


@task(1, 1, 1)
def double(x):
    """Twice."""
    raise NotImplementedError("Week 1 Day 1, task 1: double")


@task(1, 1, 2)
def half(x):
    raise NotImplementedError("Week 1 Day 1, task 2: half")
'''


def merged(mine: str, new: str, path: str = "numbers.py", base: str = BASE) -> tuple[str, bool]:
    result = merge(base.encode(), mine.encode(), new.encode(), Path(path))
    assert result.content is not None
    return result.content.decode(), result.clash


def test_new_titles_and_signatures_come_in_around_an_answer() -> None:
    mine = BASE.replace(
        '    raise NotImplementedError("Week 1 Day 1, task 1: double")', "    # mine\n    return 2 * x\n    # the end"
    )
    new = (
        BASE.replace("task 1: double", "task 1: twice")
        .replace("def double(x)", "def double(x, y=0)")
        .replace("2: half", "2: halves")
    )
    text, clash = merged(mine, new)
    assert text == mine.replace("def double(x)", "def double(x, y=0)").replace("2: half", "2: halves")
    assert not clash


def test_comments_belong_to_the_answer() -> None:
    mine = BASE.replace('    raise NotImplementedError("Week 1 Day 1, task 2: half")', "    # mine\n    return x // 2")
    new = BASE.replace("2: half", "2: halves").replace("def half(x)", "def half(x, y=0)")
    assert merged(mine, new) == (mine.replace("def half(x)", "def half(x, y=0)"), False)


def test_windows_ends_of_lines_stay() -> None:
    mine = BASE.replace('raise NotImplementedError("Week 1 Day 1, task 1: double")', "return 2 * x").replace("\n", "\r\n")
    text, clash = merged(mine, BASE.replace("Twice.", "Two times."))
    assert text == mine.replace("Twice.", "Two times.")
    assert not clash


@pytest.mark.parametrize("gone", ["double", "half"])
def test_an_answer_whose_function_the_course_drops_is_not_dropped(gone: str) -> None:
    mine = BASE.replace('raise NotImplementedError("Week 1 Day 1, task', 'return x, ("mine')
    start = BASE.index("@task(1, 1, 1)" if gone == "double" else "@task(1, 1, 2)")
    end = BASE.index("@task(1, 1, 2)") if gone == "double" else len(BASE)
    text, clash = merged(mine, BASE[:start] + BASE[end:])
    assert text.count('("mine') == 2
    assert clash


def test_a_kernel_that_is_written_stays_within_new_given_lines() -> None:
    base = '// y = 2 x\nuint i = 0;\n#error "Week 1 Day 1, task 1: double. Read a.md"\n'
    mine = base.replace('#error "Week 1 Day 1, task 1: double. Read a.md"', "y[i] = 2 * x[i];")
    new = base.replace("y = 2 x", "y = 2 x, in float32").replace("Read a.md", "Read b.md")
    text, clash = merged(mine, new, "double.metal", base)
    assert text == mine.replace("y = 2 x", "y = 2 x, in float32")
    assert not clash
    assert merged(base + "// mine\n", new, "double.metal", base) == (new + "// mine\n", False)
