"""`pdm run bench-kernels`: each kernel of the course next to MLX's own operator, on the device that MLX uses here."""

from start import start

if __name__ == "__main__":
    start("bench_kernels")
