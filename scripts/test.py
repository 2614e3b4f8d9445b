"""`pdm run test`: the tests of a day."""

from start import start

if __name__ == "__main__":
    start("test")
