"""`pdm run compare-routers`: routers in front of two real servers, the course's next to vLLM's."""

from start import start

if __name__ == "__main__":
    start("compare_routers")
