"""`pdm run course`: the guide through the course."""

from start import start

if __name__ == "__main__":
    start("course")
