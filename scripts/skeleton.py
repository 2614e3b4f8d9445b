"""`pdm run skeleton`: generate the learner's skeleton from the reference."""

from start import start

if __name__ == "__main__":
    start("skeleton")
