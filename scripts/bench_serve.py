"""`pdm run bench-serve`: what the HTTP server costs on top of the engine itself, and how late its streams are."""

from start import start

if __name__ == "__main__":
    start("bench_serve")
