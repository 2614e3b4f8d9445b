"""`pdm run timeline`: runs as pictures. A worked example, and the page of a trace that another program wrote."""

from start import start

if __name__ == "__main__":
    start("timeline")
