"""`pdm run bench-steps`: what a decode step costs over its rows, and whether prompts gain by sharing a call."""

from start import start

if __name__ == "__main__":
    start("bench_steps")
