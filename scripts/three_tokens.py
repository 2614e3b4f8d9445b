"""`pdm run three-tokens`: the worked example of week 1."""

from start import start

if __name__ == "__main__":
    start("three_tokens")
