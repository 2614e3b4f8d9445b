"""`pdm run compare-routers`: routers before two real servers, those of the course beside vLLM's."""

from start import start

if __name__ == "__main__":
    start("compare_routers")
