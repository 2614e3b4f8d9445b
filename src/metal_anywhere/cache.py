"""Compiled files that are kept from one process to the next: whoever asks for one gets it whole, or not at all."""

import contextlib
import functools
import hashlib
import os
import shutil
import stat
import tempfile
import time
import warnings
from pathlib import Path

VARIABLE = "METAL_ANYWHERE_CACHE"
MOST_KEPT = 2000  # files of about 100 KB
_LONGEST_BUILD = 3600  # seconds, after which a workspace belongs to nobody any more


def folder() -> Path:
    """Where files are kept: $METAL_ANYWHERE_CACHE, or ~/.cache/metal-anywhere. It may be deleted at any time.

    Where that cannot be written to, a temporary folder that only this user can read and write, with a warning.
    """
    try:
        chosen = _chosen()
        chosen.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(chosen, os.W_OK | os.X_OK):
            return chosen
        reason = f"{chosen} cannot be written to"
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        reason = str(error)
    private = _private()
    _warn_once(f"compiled kernels are kept in {private}: {reason}. ${VARIABLE} chooses another folder")
    return private


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def _chosen() -> Path:
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "metal-anywhere"


def _private() -> Path:
    """One for all processes of this user, unless somebody else has taken its name: what lies there is code that we run."""
    shared = Path(tempfile.gettempdir()) / f"metal-anywhere-{os.getuid()}"
    with contextlib.suppress(OSError):
        shared.mkdir(mode=0o700)
    about = shared.lstat()
    ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o077
    return shared if ours else Path(_of_this_process().name)


@functools.cache
def _of_this_process() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="metal-anywhere-")


def workspace() -> tempfile.TemporaryDirectory[str]:
    """A folder to make a file in that `keep` is then given."""
    return tempfile.TemporaryDirectory(prefix="building-", dir=folder())


def keep(made: Path, key: str) -> Path:
    """Moves `made` to where `find(key, ...)` looks for it, in one step: another process may be at the same."""
    path = folder() / f"{key}-{_digest(made)}{made.suffix}"
    os.replace(made, path)
    _forget_oldest(path.parent)
    return path


def find(key: str, suffix: str) -> Path | None:
    """The file that was kept under this key. One that was damaged since is deleted: its name ends with its digest."""
    for path in sorted(folder().glob(f"{key}-*{suffix}")):
        with contextlib.suppress(OSError):  # it was deleted meanwhile, or may not be read
            if path.stem == f"{key}-{_digest(path)}":
                os.utime(path)
                return path
            path.unlink()
    return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _forget_oldest(folder: Path) -> None:
    """Deletes what has not been used for the longest time. A process that has loaded it keeps it."""
    with contextlib.suppress(FileNotFoundError):  # another process is at the same
        times = {path: path.stat().st_mtime for path in folder.iterdir()}
        for path in sorted(filter(Path.is_file, times), key=times.__getitem__)[:-MOST_KEPT]:
            path.unlink()
        for path in folder.glob("building-*"):  # of processes that were killed
            if times.get(path, time.time()) < time.time() - _LONGEST_BUILD:
                shutil.rmtree(path, ignore_errors=True)
