"""`pdm run bench-kernels`: each kernel of the course beside MLX's own operator, on what MLX computes on here."""

from start import start

if __name__ == "__main__":
    start("bench_kernels")
