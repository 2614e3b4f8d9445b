"""`pdm run claims`: the law behind batching, where it fails, and how common claims fare against it."""

from start import start

if __name__ == "__main__":
    start("claims")
