"""Give MLX a fast BLAS on Linux without a GPU.

The mlx[cpu] wheel for Linux multiplies float32 matrices with the reference BLAS: one thread, no blocking for
caches. SciPy's wheels are built with OpenBLAS, which is also published on its own as `scipy-openblas32`.

A shared library calls a function of another through a pointer in its global offset table (the System V ABI's "procedure
linkage"). libmlx.so has three such pointers to BLAS: `cblas_sgemm`, `cblas_dgemm` and `cblas_cgemm`. Unless the library
was linked with `-z now` they stay writable, and whatever address they hold is what gets called. So nothing is compiled:
ELF says where the pointers are, and ctypes writes OpenBLAS's addresses into them.

`TINY_LLM_BLAS=off` leaves MLX as it came; OPENBLAS_NUM_THREADS chooses the number of threads, which otherwise follows the
load of the machine. This module knows nothing of models or of the course.
"""

import ctypes
import logging
import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from tiny_llm_kit.machine import thread_count

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

logger = logging.getLogger(__name__)

WANTED = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm")
SETTINGS = ("on", "off")

RELOCATION = struct.Struct("<QQq")  # Elf64_Rela: r_offset, r_info (the symbol's number and the type, 32 bits each), r_addend
SYMBOL = struct.Struct("<I20x")  # Elf64_Sym: st_name, which is a place in the table of names, and what is not needed here


@dataclass(frozen=True)
class Status:
    """Which BLAS multiplies MLX's matrices in this process.

    `threads` is how many it may use; if it `follows_load`, it uses fewer while others need the cores (see `thread_count`).
    `threads` and `core` (the kind of processor its kernels are written for) are None if the library does not say. `reason` says
    why MLX was left as it came; it is empty when `redirected`.
    """

    name: str
    threads: int | None = None
    follows_load: bool = False
    core: str | None = None
    redirected: bool = False
    reason: str = ""


class LeaveAlone(Exception):
    """The redirect is not wanted here; the message says why."""


class CannotRedirect(Exception):
    """The redirect is wanted and not possible; the message says why."""


@dataclass(frozen=True)
class Mapping:
    """One line of /proc/self/maps: addresses [start, end), what may be done there, and the file behind it."""

    start: int
    end: int
    permissions: str
    path: str


_status: Status | None = None


def enable() -> Status:
    """Point MLX's matrix products at OpenBLAS, once per process; later calls return the first one's answer.

    Where there is nothing to do (macOS, an NVIDIA GPU, TINY_LLM_BLAS=off) it does nothing and says nothing. Where it
    ought to work and does not, it logs one warning (a line on stderr) and leaves MLX as it came. It never raises.
    """
    global _status
    if _status is None:
        _status = _decide()
    return _status


def status() -> Status:
    """What `enable` did, for reports; it is called when the package is imported."""
    return _status or Status(_own_blas(), reason="not enabled yet")


def _decide() -> Status:
    try:
        _check_wanted()
        return _redirect()
    except LeaveAlone as wish:
        return Status(_own_blas(), reason=str(wish))
    except Exception as problem:  # a slow program is better than none, whatever the reason
        reason = _one_line(problem)
        logger.warning(
            "tiny-llm: matrix products will be about 30 times slower, because MLX could not be given OpenBLAS: %s. "
            "Run `pdm run setup` for versions that work together; TINY_LLM_BLAS=off accepts the slow products quietly.",
            reason,
        )
        return Status(_own_blas(), reason=reason)


def _check_wanted() -> None:
    if sys.platform != "linux" or mx.cuda.is_available():
        raise LeaveAlone("MLX is fast here as it comes")
    setting = os.environ.get("TINY_LLM_BLAS") or "on"
    if setting == "off":
        raise LeaveAlone("TINY_LLM_BLAS=off")
    if setting not in SETTINGS:
        raise CannotRedirect(f"TINY_LLM_BLAS={setting!r} is not one of {', '.join(SETTINGS)}")


def _own_blas() -> str:
    if sys.platform == "darwin":
        return "Accelerate"
    return "cuBLAS" if mx.cuda.is_available() else "reference BLAS"


def _one_line(problem: Exception) -> str:
    if isinstance(problem, ModuleNotFoundError):
        return f"the package {str(problem.name).partition('.')[0]} is not installed"
    return " ".join(str(problem).split()) or type(problem).__name__


def _redirect() -> Status:
    openblas = _load_openblas()
    mappings = _read_mappings()
    # Everything is checked before anything is written: either all three products move or none does.
    slots = _find_slots(mappings)
    targets = {name: _address(openblas, "scipy_" + name) for name in slots}
    for name, slot in slots.items():
        _check_writable(name, slot, mappings)
    for name, slot in slots.items():
        ctypes.c_void_p.from_address(slot).value = targets[name]

    openblas.scipy_openblas_get_config.restype = ctypes.c_char_p
    openblas.scipy_openblas_get_corename.restype = ctypes.c_char_p
    version = openblas.scipy_openblas_get_config().decode().split()[1]
    core = openblas.scipy_openblas_get_corename().decode()
    threads = openblas.scipy_openblas_get_num_threads()
    chosen = bool(os.environ.get("OPENBLAS_NUM_THREADS"))
    if not chosen:
        threads = thread_count.follow_load(openblas.scipy_openblas_set_num_threads, threads)
    return Status(f"OpenBLAS {version}", threads, follows_load=not chosen and threads > 1, core=core, redirected=True)


def _load_openblas() -> ctypes.CDLL:
    import scipy_openblas32  # only Linux has it

    # By default a thread with nothing to do spins for 2^26 cycles. On a machine with more busy programs than cores that keeps
    # the thread with the work from running, and a product takes a hundred times as long. Asleep after 2^4, it holds up no one.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    return ctypes.CDLL(f"{scipy_openblas32.get_lib_dir()}/{scipy_openblas32.get_library(fullname=True)}")


def _address(library: ctypes.CDLL, symbol: str) -> int:
    if not hasattr(library, symbol):
        raise CannotRedirect(f"OpenBLAS has no function {symbol}")
    address = ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value
    assert address is not None  # a function that was found has an address
    return address


def _read_mappings() -> list[Mapping]:
    mappings = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, permissions, _offset, _device, _inode, *path = line.split(maxsplit=5)
        start, end = (int(address, 16) for address in addresses.split("-"))
        mappings.append(Mapping(start, end, permissions, path[0] if path else ""))
    return mappings


def _find_slots(mappings: list[Mapping]) -> dict[str, int]:
    """Addresses of libmlx's pointers to the wanted functions, by name: the load address plus ELF's offsets."""
    from elftools.elf.elffile import ELFFile  # only Linux has it

    libmlx = min((m for m in mappings if Path(m.path).name == "libmlx.so"), key=lambda m: m.start, default=None)
    if libmlx is None:
        raise CannotRedirect("libmlx.so is not loaded in this process")
    with open(libmlx.path, "rb") as file:
        elf = ELFFile(file)
        offsets = _jump_slots(elf)
        if offsets.keys().isdisjoint(WANTED) and _is_built_for_cuda(elf):
            raise LeaveAlone("this build of MLX is for NVIDIA GPUs and brings its own products")
    if missing := [name for name in WANTED if name not in offsets]:
        raise CannotRedirect(f"libmlx.so does not call {', '.join(missing)} through a jump slot")
    return {name: libmlx.start + offsets[name] for name in WANTED}


def _jump_slots(elf: "ELFFile") -> dict[str, int]:
    """The pointers through which a library calls others, by function: offsets from where it is loaded.

    The tables are read with `struct`, since this happens whenever a program starts: pyelftools would take 20 ms for them.
    """
    from elftools.elf.enums import ENUM_RELOC_TYPE_AARCH64, ENUM_RELOC_TYPE_x64

    jump_slot = {
        "EM_X86_64": ENUM_RELOC_TYPE_x64["R_X86_64_JUMP_SLOT"],
        "EM_AARCH64": ENUM_RELOC_TYPE_AARCH64["R_AARCH64_JUMP_SLOT"],
    }
    machine = elf["e_machine"]
    if machine not in jump_slot:
        raise CannotRedirect(f"{machine} processors are not known, only {' and '.join(jump_slot)} are")
    symbols, names, relocations = (_read_table(elf, name) for name in (".dynsym", ".dynstr", ".rela.plt"))
    slots = {}
    for offset, info, _ in RELOCATION.iter_unpack(relocations):
        if info & 0xFFFFFFFF == jump_slot[machine]:
            (begin,) = SYMBOL.unpack_from(symbols, (info >> 32) * SYMBOL.size)
            slots[names[begin : names.index(b"\0", begin)].decode()] = offset
    return slots


def _read_table(elf: "ELFFile", name: str) -> bytes:
    section = elf.get_section_by_name(name)
    if section is None:
        raise CannotRedirect("libmlx.so has no table of the functions that it calls in other libraries")
    return section.data()


def _is_built_for_cuda(elf: "ELFFile") -> bool:
    from elftools.elf.dynamic import DynamicSection

    dynamic = elf.get_section_by_name(".dynamic")
    if not isinstance(dynamic, DynamicSection):
        return False
    tags: Any = dynamic.iter_tags("DT_NEEDED")
    return any(tag.needed.startswith("libcu") for tag in tags)


def _check_writable(name: str, slot: int, mappings: list[Mapping]) -> None:
    mapping = next((m for m in mappings if m.start <= slot < m.end), None)
    if mapping is None or "w" not in mapping.permissions:
        raise CannotRedirect(f"libmlx's pointer to {name} is not writable")
