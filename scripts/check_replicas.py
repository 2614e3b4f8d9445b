"""`pdm run check-replicas`: two replicas on Ray Serve, one is killed mid-stream, and every answer is complete."""

from start import start

if __name__ == "__main__":
    start("check_replicas")
