"""`pdm run bench-load`: requests that come at rising rates, until each schedule breaks what it promised."""

from start import start

if __name__ == "__main__":
    start("bench_load")
