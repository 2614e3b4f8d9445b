"""`pdm run bench-scheduler`: what deciding costs, over the requests that wait and run."""

from start import start

if __name__ == "__main__":
    start("bench_scheduler")
