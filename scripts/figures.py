"""`pdm run figures`: the book's figures, drawn from measurements and from the course's own objects."""

from start import start

if __name__ == "__main__":
    start("figures")
