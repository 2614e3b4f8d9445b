"""`pdm run bench-paged`: the paged engine next to the slot engine and mlx-lm, and what its steps cost."""

from start import start

if __name__ == "__main__":
    start("bench_paged")
