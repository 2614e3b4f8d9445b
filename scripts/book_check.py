"""`pdm run book-check`: check the book."""

from start import start

if __name__ == "__main__":
    start("book_check")
