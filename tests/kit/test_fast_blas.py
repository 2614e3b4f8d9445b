"""The redirect of MLX's products to OpenBLAS: that it happens, that `off` prevents it, and how it fails.

It changes a whole process and happens on import, so every test looks at a fresh process.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

SOURCE = Path(__file__).parents[2] / "src"

linux_cpu = pytest.mark.skipif(
    sys.platform != "linux" or mx.cuda.is_available(), reason="only MLX on Linux without a GPU needs another BLAS"
)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a Python of its own, with no setting of TINY_LLM_BLAS but the one given."""
    inherited = {name: value for name, value in os.environ.items() if name != "TINY_LLM_BLAS"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "PYTHONPATH": str(SOURCE), **environment},
        capture_output=True,
        text=True,
    )


def result(code: str, **environment: str) -> Any:
    """What `code` prints as JSON; it must work without a word on stderr."""
    process = run(code, **environment)
    assert process.returncode == 0, process.stderr
    assert process.stderr == "", "importing the package should be silent when nothing is wrong"
    return json.loads(process.stdout)


STATUS = """
import dataclasses, json
from tiny_llm_kit.machine import fast_blas
print(json.dumps(dataclasses.asdict(fast_blas.enable())))
"""

# Written without the help of fast_blas: where each pointer of libmlx to a BLAS product leads, by the name of the file.
POINTERS = """
import ctypes, json
import mlx.core as mx
import tiny_llm_kit
from elftools.elf.elffile import ELFFile

maps = [line.split(maxsplit=5) for line in open("/proc/self/maps")]
maps = [(*(int(a, 16) for a in m[0].split("-")), m[5].strip()) for m in maps if len(m) == 6]
base, _, path = next(m for m in maps if m[2].endswith("/libmlx.so"))
led_to = {}
with open(path, "rb") as file:
    elf = ELFFile(file)
    symbols = elf.get_section_by_name(".dynsym")
    for relocation in elf.get_section_by_name(".rela.plt").iter_relocations():
        name = symbols.get_symbol(relocation["r_info_sym"]).name
        if name.startswith("cblas_"):
            target = ctypes.c_void_p.from_address(base + relocation["r_offset"]).value
            led_to[name] = next(m[2].rpartition("/")[2] for m in maps if m[0] <= target < m[1])
print(json.dumps(led_to))
"""


@linux_cpu
def test_every_product_leads_to_openblas() -> None:
    files = result(POINTERS)
    assert files.keys() == {"cblas_sgemm", "cblas_dgemm", "cblas_cgemm"}, "the MLX wheel calls other BLAS functions"
    assert all("openblas" in file for file in files.values()), files


@linux_cpu
def test_off_leaves_the_pointers_as_they_came() -> None:
    files = result(POINTERS, TINY_LLM_BLAS="off")
    assert files, "found no pointer to BLAS in libmlx"
    assert not any("openblas" in file for file in files.values()), files


# The inputs are exact in float32, so that NumPy's float64 can repeat the product.
PRODUCT = """
import json
import mlx.core as mx, numpy as np
import tiny_llm_kit
random = np.random.default_rng(0)
a, b = (random.standard_normal(shape).astype(np.float32) for shape in ((64, 4096), (4096, 64)))
print(json.dumps(np.array(mx.array(a) @ mx.array(b)).tolist()))
"""


@linux_cpu
def test_the_products_are_openblas_s() -> None:
    """The reference BLAS adds 4096 terms one after another, OpenBLAS by blocks: both right, rounded differently."""
    fast, slow = np.array(result(PRODUCT)), np.array(result(PRODUCT, TINY_LLM_BLAS="off"))
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(shape).astype(np.float32).astype(np.float64) for shape in ((64, 4096), (4096, 64)))
    # Adding K terms in any order is off by at most K * eps * sum |a b| (Higham, Accuracy and Stability, 4.2).
    bound = 4096 * np.finfo(np.float32).eps * (np.abs(a) @ np.abs(b))
    assert np.all(np.abs(fast - a @ b) <= bound), "OpenBLAS's product is wrong"
    assert np.all(np.abs(slow - a @ b) <= bound), "the reference BLAS's product is wrong"
    assert np.any(fast != slow), "the same rounding in all 4096 sums: the redirect changed nothing that is computed"


@linux_cpu
@pytest.mark.parametrize("before", ["", "import mlx.core as mx; x = mx.ones((8, 8)); mx.eval(x @ x)\n"])
def test_status_names_openblas(before: str) -> None:
    """Also when MLX has already multiplied: the dynamic linker has then filled the pointers in."""
    status = result(before + STATUS)
    assert status["redirected"]
    assert status["name"].startswith("OpenBLAS 0.3.")
    assert status["threads"] >= 1
    assert status["core"]
    assert status["reason"] == ""


@linux_cpu
def test_status_counts_the_threads_of_openblas() -> None:
    assert result(STATUS, OPENBLAS_NUM_THREADS="1")["threads"] == 1


@linux_cpu
def test_status_is_that_of_enable() -> None:
    code = """from tiny_llm_kit.machine import fast_blas
print(int(fast_blas.enable() is fast_blas.enable() is fast_blas.status()))"""
    assert result(code) == 1, "enable() should act once, and status() tell what it did"


@linux_cpu
def test_status_when_off() -> None:
    status = result(STATUS, TINY_LLM_BLAS="off")
    assert (status["name"], status["redirected"], status["reason"]) == ("reference BLAS", False, "TINY_LLM_BLAS=off")


@linux_cpu
@pytest.mark.parametrize(
    ("before", "name"),
    [
        ("import sys, mlx.core; sys.platform = 'darwin'", "Accelerate"),
        ("import mlx.core as mx; mx.cuda.is_available = lambda: True", "cuBLAS"),
    ],
    ids=["mac", "cuda"],
)
def test_a_machine_with_fast_products_is_left_alone(before: str, name: str) -> None:
    """Quietly, and whatever the setting, which means nothing there."""
    status = result(before + STATUS, TINY_LLM_BLAS="nonsense")
    assert (status["name"], status["redirected"]) == (name, False)


# The page holds other data of libmlx too, so it is made writable again before the process ends.
READ_ONLY = """
import atexit, ctypes, mmap
import mlx.core
from elftools.elf.elffile import ELFFile
base, path = next((int(l.split("-")[0], 16), l.split()[-1]) for l in open("/proc/self/maps") if "libmlx.so" in l)
elf = ELFFile(open(path, "rb"))
slot = base + next(r["r_offset"] for r in elf.get_section_by_name(".rela.plt").iter_relocations()
    if elf.get_section_by_name(".dynsym").get_symbol(r["r_info_sym"]).name == "cblas_sgemm")
page = slot // mmap.PAGESIZE * mmap.PAGESIZE
def protect(protection):
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, protection) == 0
protect(mmap.PROT_READ)
atexit.register(protect, mmap.PROT_READ | mmap.PROT_WRITE)
"""

FAILURES = {
    "no openblas": ("import sys; sys.modules['scipy_openblas32'] = None", "scipy_openblas32 is not installed"),
    "no elftools": ("import sys; sys.modules['elftools'] = None", "elftools is not installed"),
    "other library": (
        "import mlx.core, scipy_openblas32 as s, pathlib\n"
        "s.get_lib_dir = lambda: next(p for p in map(pathlib.Path, mlx.__path__)) / 'lib'\n"
        "s.get_library = lambda fullname: 'libmlx.so'",
        "no function scipy_cblas_",
    ),
    "library gone": (
        "import mlx.core, scipy_openblas32 as s\ns.get_library = lambda fullname: 'libnone.so'",
        "libnone.so",
    ),
    "other processor": (
        "from elftools.elf.elffile import ELFFile\n"
        "header = ELFFile.__getitem__\n"
        "ELFFile.__getitem__ = lambda self, key: 'EM_RISCV' if key == 'e_machine' else header(self, key)",
        "EM_RISCV",
    ),
    "no imports": (
        "from elftools.elf.elffile import ELFFile\n"
        "section = ELFFile.get_section_by_name\n"
        "ELFFile.get_section_by_name = lambda self, name: None if name == '.rela.plt' else section(self, name)",
        "no table of the functions",
    ),
    "read-only": (READ_ONLY, "pointer to cblas_sgemm is not writable"),
    "unknown setting": ("import os; os.environ['TINY_LLM_BLAS'] = 'fast'", "'fast' is not one of on, off"),
}


@linux_cpu
@pytest.mark.parametrize(("before", "reason"), FAILURES.values(), ids=FAILURES.keys())
def test_failure_is_one_line_and_changes_nothing(before: str, reason: str) -> None:
    # All functions are bound at the start, so that the linker itself has nothing to write to a page made read-only.
    process = run(f"{before}\n{STATUS}", LD_BIND_NOW="1")
    assert process.returncode == 0, f"importing the package raised:\n{process.stderr}"
    assert len(process.stderr.splitlines()) == 1, f"not one line on stderr:\n{process.stderr}"
    assert reason in process.stderr
    assert "30 times slower" in process.stderr, "the line should say what it costs"
    assert "pdm run setup" in process.stderr, "the line should say what to do"
    status = json.loads(process.stdout)
    assert not status["redirected"]
    assert status["name"] == "reference BLAS"
    assert reason in status["reason"]


NO_COMPLEX_PRODUCT = """
import ctypes
find = ctypes.CDLL.__getattr__
def find_others(library, name):
    if name == "scipy_cblas_cgemm":
        raise AttributeError(name)
    return find(library, name)
ctypes.CDLL.__getattr__ = find_others
"""


@linux_cpu
@pytest.mark.parametrize("before", [READ_ONLY, NO_COMPLEX_PRODUCT], ids=["read-only", "one of three missing"])
def test_failure_leaves_every_pointer(before: str) -> None:
    process = run(f"{before}\n{POINTERS}", LD_BIND_NOW="1")
    assert process.returncode == 0, process.stderr
    assert len(process.stderr.splitlines()) == 1, f"not one line on stderr:\n{process.stderr}"
    files = json.loads(process.stdout)
    assert len(files) == 3
    assert not any("openblas" in file for file in files.values()), f"nothing half-done: {files}"
