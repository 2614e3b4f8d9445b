"""`pdm run serve-replicas`: several engines behind one address, on Ray Serve."""

from start import start

if __name__ == "__main__":
    start("serve_replicas")
