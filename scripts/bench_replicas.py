"""`pdm run bench-replicas`: routers before several replicas, compared in simulation."""

from start import start

if __name__ == "__main__":
    start("bench_replicas")
