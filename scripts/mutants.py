"""`pdm run mutants`: how many small slips in a day's answers its tests notice."""

from start import start

if __name__ == "__main__":
    start("mutants")
