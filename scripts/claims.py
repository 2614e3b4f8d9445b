"""`pdm run claims`: the law behind batching, where it fails, and what becomes of the claims that circulate."""

from start import start

if __name__ == "__main__":
    start("claims")
