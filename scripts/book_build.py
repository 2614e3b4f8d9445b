"""`pdm run book-build`: build the book."""

from start import start

if __name__ == "__main__":
    start("book_build")
