"""`pdm run simulate`: what an engine would do on another machine, with other requests, or with a million of them."""

from start import start

if __name__ == "__main__":
    start("simulate")
