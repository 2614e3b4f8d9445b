"""What is kept of compiled kernels, and which compiler is used: whatever state the machine is in, a kernel runs or says why."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import pytest

from metal.broken import run
from metal_anywhere import CompileError, NoCompiler, cache
from metal_anywhere.toolchain import find_compiler

SOURCES = Path(__file__).parents[2] / "src"
BODY = "y[thread_position_in_grid.x] = 2 * x[thread_position_in_grid.x];"
DOUBLED = [2.0 * i for i in range(64)]
SCRIPT = f"""
import mlx.core as mx
from metal_anywhere import metal_kernel
kernel = metal_kernel("double", ["x"], ["y"], {BODY!r})
options = dict(grid=(64, 1, 1), threadgroup=(32, 1, 1), output_shapes=[(64,)], output_dtypes=[mx.float32])
print(kernel(inputs=[mx.arange(64.0)], **options)[0].tolist())
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder for compiled kernels."""
    monkeypatch.setenv("METAL_ANYWHERE_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


def start(**environment: str) -> subprocess.Popen[str]:
    """A process that runs a kernel."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("METAL_ANYWHERE_CACHE", "XDG_CACHE_HOME")}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env=inherited | {"PYTHONPATH": str(SOURCES)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """What it wrote to its standard error, once it has computed what it should."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert output == f"{DOUBLED}\n"
    return errors


# The folder


def test_only_its_owner_can_use_the_folder(folder: Path) -> None:
    assert run(BODY).tolist() == DOUBLED
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("broken", ["a file in its place", "no such user"])
def test_without_a_home_kernels_are_kept_in_a_private_temporary_folder(broken: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "temporary").mkdir()
    wrong = {
        "a file in its place": {"HOME": str(tmp_path / "file")},
        "no such user": {"METAL_ANYWHERE_CACHE": "~nosuchuser/kept"},
    }
    for _ in range(2):
        errors = finish(start(TMPDIR=str(tmp_path / "temporary"), **wrong[broken]))
        assert errors.count("RuntimeWarning: compiled kernels are kept in") == 1
        assert "METAL_ANYWHERE_CACHE" in errors
    [private] = (tmp_path / "temporary").iterdir()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert len(list(private.glob("*.so"))) == 1, "the second process found what the first had kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_folder_that_may_not_be_written_to(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder.mkdir(mode=0o500)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.warns(RuntimeWarning, match="cannot be written to"):
        assert run(BODY).tolist() == DOUBLED


def test_a_temporary_folder_that_others_can_write_to_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What lies there is loaded and run."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("METAL_ANYWHERE_CACHE", os.devnull)
    with pytest.warns(RuntimeWarning):
        private = cache.folder()
    private.chmod(0o777)
    with pytest.warns(RuntimeWarning):
        other = cache.folder()
    assert other != private
    assert stat.S_IMODE(other.stat().st_mode) == 0o700


# What lies in it


@pytest.mark.parametrize("damaged", [b"", b"what was k", b"what was kepT", b"what was kept\0", b"something else"])
def test_what_was_damaged_is_not_found(damaged: bytes, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "made.so").write_bytes(b"what was kept")
    kept = cache.keep(tmp_path / "made.so", "key")
    assert cache.find("key", ".so") == kept
    kept.write_bytes(damaged)
    assert cache.find("key", ".so") is None
    assert not kept.exists()


def test_an_empty_library_is_compiled_again(folder: Path) -> None:
    finish(start(METAL_ANYWHERE_CACHE=str(folder)))
    kept = sorted(folder.iterdir())
    assert [path.suffix for path in kept] == [".so", ".o"], "a kernel and the runtime"
    for path in kept:
        path.write_bytes(b"")
    finish(start(METAL_ANYWHERE_CACHE=str(folder)))
    assert all(path.stat().st_size > 0 for path in folder.iterdir())


def test_processes_that_compile_one_kernel_at_once(folder: Path) -> None:
    processes = [start(METAL_ANYWHERE_CACHE=str(folder)) for _ in range(3)]
    for process in processes:
        finish(process)
    assert {path.suffix for path in folder.iterdir()} == {".so", ".o"}, "no half-made file is left"


def test_the_folder_may_be_deleted_at_any_time(folder: Path) -> None:
    assert run(BODY).tolist() == DOUBLED
    shutil.rmtree(folder)
    assert run(BODY).tolist() == DOUBLED
    assert run(f"{BODY} // another").tolist() == DOUBLED


# The compiler


def test_an_empty_setting_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    usual = find_compiler("double")
    for empty in ("", " ", "\t "):
        monkeypatch.setenv("CXX", empty)
        assert find_compiler("double") == usual


def test_a_compiler_with_arguments_and_a_path_with_spaces(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    program = tmp_path / "my compilers" / "c++"
    program.parent.mkdir()
    program.symlink_to(Path(shutil.which(find_compiler("double").command[0]) or ""))
    monkeypatch.setenv("CXX", f"'{program}' -DFACTOR=3")
    assert run("y[thread_position_in_grid.x] = FACTOR;").tolist() == [3.0] * 64
    monkeypatch.setenv("CXX", f"'{program}' -DFACTOR=4")
    assert run("y[thread_position_in_grid.x] = FACTOR;").tolist() == [4.0] * 64, "other arguments, another kernel"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("'c++", "No closing quotation"),
        ("no-such-compiler -O3", "does not exist"),
        ("false", "does not work as a C++ compiler"),
        ("cat", "does not work as a C++ compiler"),
        ("c++ --no-such-option", "does not work as a C++ compiler"),
    ],
)
def test_a_setting_that_is_no_compiler(setting: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find_compiler("double")  # skips the test where there is none at all
    monkeypatch.setenv("CXX", setting)
    with pytest.raises(NoCompiler) as error:
        run(BODY)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("linker", ["lld", "gold", "no-such-linker"])
def test_kernels_are_linked_by_what_there_is(linker: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metal_anywhere.toolchain.QUICK_LINKERS", (linker,))
    chosen = f"-fuse-ld={linker}" in find_compiler("double").linking
    assert chosen == (sys.platform == "linux" and shutil.which(f"ld.{linker}") is not None)
    assert run(f"{BODY} // linked by {linker}").tolist() == DOUBLED


def test_a_folder_from_which_nothing_can_be_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that is mounted without the right to execute."""

    def refuse(*_: object) -> None:
        raise OSError("failed to map segment from shared object")

    monkeypatch.setattr("ctypes.PyDLL", refuse)
    with pytest.raises(CompileError, match=r"cannot be loaded: failed to map.*METAL_ANYWHERE_CACHE"):
        run(f"{BODY} // cannot be loaded", template=[("T", mx.float32)])
