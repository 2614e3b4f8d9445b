"""`pdm run predict`: fit a cost model to one run, predict others by simulation, and measure them alongside it."""

from start import start

if __name__ == "__main__":
    start("predict")
