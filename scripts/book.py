"""`pdm run book`: serve the book."""

from start import start

if __name__ == "__main__":
    start("book")
