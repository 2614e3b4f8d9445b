"""What the course gives: model files, fast products on any machine, workloads, the course runner. No exercises.

Importing this package points MLX's CPU products at OpenBLAS where that helps (see `fast_blas`).
"""

import contextlib

with contextlib.suppress(ImportError):  # without MLX there is nothing to speed up; `cli.preflight` says what to install
    from . import fast_blas

    fast_blas.enable()
