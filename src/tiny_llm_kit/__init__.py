"""What the course gives: model files, fast products on any machine, workloads, the course runner. No exercises.

Importing this package points MLX's CPU products at OpenBLAS where that helps (see `machine.fast_blas`).
"""

import contextlib

with contextlib.suppress(ImportError):  # without MLX there is nothing to speed up; `cli.preflight` says what to install
    from tiny_llm_kit.machine import fast_blas

    fast_blas.enable()
