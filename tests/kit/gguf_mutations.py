"""Damage the header of a GGUF file in many ways, and load each: it may load, or end in a ValueError that names the file.

Each is loaded in a process of its own, which may crash or hang. `test_gguf` runs this on a tiny file; on the embedded model:
PYTHONPATH=src python tests/kit/gguf_mutations.py
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import transformers  # noqa: F401  once here, rather than in each process

from tiny_llm_kit.models.load import load

PATIENCE = 30  # seconds until a process counts as hanging; loading the embedded model takes 2
EXTREMES = [0, 1, 2, 31, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", help="a GGUF file; the embedded model without one")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    original = arguments.file or embedded_file()
    rng = random.Random(arguments.seed)
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "damaged.gguf"
        shutil.copyfile(original, file)
        for _ in range(arguments.count):
            with damaged(file, rng) as (description, victim):
                outcome = load_apart(victim)
            if outcome not in ("loads", "clear error"):
                print(f"{description}: {outcome}")
                outcome = "bad"
            outcomes[outcome] += 1
    print(f"{arguments.count - outcomes['bad']} of {arguments.count} load or end in a clear error: {dict(outcomes)}")
    return int(outcomes["bad"] > 0)


def embedded_file() -> Path:
    from tiny_llm_kit.models.load import _embedded_file

    return _embedded_file()


@contextmanager
def damaged(file: Path, rng: random.Random) -> Iterator[tuple[str, Path]]:
    """What was done, and the damaged file. `file` itself is whole again afterwards."""
    header = header_of(file)
    # Counts, types and lengths are most of the header's beginning and end, and few of the strings between.
    at = rng.choice([rng.randrange(len(header)), rng.randrange(min(300, len(header))), -rng.randrange(1, 2000) % len(header)])
    if rng.random() < 0.2:
        short = file.with_name("short.gguf")
        short.write_bytes(header[:at])
        yield f"cut at byte {at}", short
        return
    if rng.random() < 0.5:
        new = bytes([header[at] ^ 1 << rng.randrange(8)])
    else:
        new = rng.choice(EXTREMES).to_bytes(8, "little")[: rng.choice([4, 8])]
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(new)
    try:
        yield f"{new!r} at byte {at}", file
    finally:
        with file.open("r+b") as opened:
            opened.seek(at)
            opened.write(header[at : at + len(new)])


def header_of(file: Path) -> bytes:
    """Up to the last tensor's name, dimensions, type and offset, and a few bytes more."""
    with file.open("rb") as opened:
        beginning = opened.read(4 * 2**20)
    return beginning[: beginning.rindex(b".weight") + 64]


def load_apart(file: Path) -> str:
    """How loading the file ends: "loads", "clear error", or whatever should not be."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        signal.alarm(PATIENCE)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.write(writer, outcome_of(file).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        outcome = pipe.read()
    _, status = os.waitpid(child, 0)
    return outcome or f"the process ended with {signal.Signals(os.WTERMSIG(status)).name}"


def outcome_of(file: Path) -> str:
    try:
        load(file, keep_quantized=True)
    except ValueError as error:
        return "clear error" if str(file) in str(error) else f"an error that does not name the file: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "loads"


if __name__ == "__main__":
    sys.exit(main())
