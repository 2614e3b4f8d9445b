"""What the course gives: model files, fast products on any machine, workloads, the course runner. No exercises.

Importing this package points MLX's CPU products at OpenBLAS where that helps (see `machine.fast_blas`).
"""

try:
    from tiny_llm_kit.machine import fast_blas

    fast_blas.enable()
except ImportError:
    pass  # without MLX there is nothing to speed up; `cli.preflight` says what to install
except KeyboardInterrupt:  # programs can't handle it before they are imported themselves
    raise SystemExit("Aborted!") from None
