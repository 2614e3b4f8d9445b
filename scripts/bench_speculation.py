"""`pdm run bench-speculation`: what n-gram drafts gain, alone and in a batch, for texts that repeat themselves and texts that
don't."""

from start import start

if __name__ == "__main__":
    start("bench_speculation")
