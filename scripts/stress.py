"""`pdm run stress`: random schedules with accidents of every kind; what must hold of an engine has to hold in each."""

from start import start

if __name__ == "__main__":
    start("stress")
