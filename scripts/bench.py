"""`pdm run bench`: batch sizes and engines, in turn, in one run."""

from start import start

if __name__ == "__main__":
    start("bench")
