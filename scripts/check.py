"""`pdm run check`: everything that has to hold before a change goes in."""

from start import start

if __name__ == "__main__":
    start("check")
