"""`pdm run bench-speculation`: what n-gram drafts bring, alone and in a batch, where texts repeat themselves and where not."""

from start import start

if __name__ == "__main__":
    start("bench_speculation")
