"""What a run of a suite imports, apart from the answers: `forker` imports it once for hundreds of runs.

Nothing here starts a thread or computes with MLX, which a fork would not survive.
"""

import contextlib
import importlib

from metal_anywhere import opencl_check, toolchain
from metal_anywhere.errors import NoCompiler
from tiny_llm_kit.course.course_map import find_root, load_course

MODULES = (
    *("asyncio", "hypothesis", "jinja2", "mlx.core", "mlx.nn", "numpy", "numpy.random", "psutil", "statistics", "tomllib"),
    *("elftools.elf.elffile", "platformdirs", "scipy_openblas32", "tokenizers", "transformers"),
    *("anyio._backends._asyncio", "fastapi", "fastapi.responses", "llguidance", "prometheus_client", "pydantic"),
    *("tiny_llm_kit.bench.counting_model", "tiny_llm_kit.bench.least_squares", "tiny_llm_kit.bench.peer"),
    *("tiny_llm_kit.course.reference_guard", "tiny_llm_kit.machine.fast_math", "tiny_llm_kit.models.load"),
    *("tiny_llm_kit.models.tiny_random", "tiny_llm_kit.models.vocabulary", "tiny_llm_kit.server_page"),
    "tiny_llm_kit.workloads.lists",
)

for name in MODULES:
    with contextlib.suppress(ImportError):  # the tests will say what is missing
        importlib.import_module(name)
with contextlib.suppress(ValueError):  # the tests will say what is wrong with it
    load_course(find_root())
# Which compilers there are is asked of each, which takes a tenth of a second.
opencl_check.find_clang()
with contextlib.suppress(NoCompiler):
    toolchain.find_compiler("a suite")
