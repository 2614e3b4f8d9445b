"""`pdm run waste`: how much of the memory for keys and values is wasted in slots, and in blocks."""

from start import start

if __name__ == "__main__":
    start("waste")
