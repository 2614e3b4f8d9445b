"""`pdm run serve`: an OpenAI-compatible server of the engine."""

from start import start

if __name__ == "__main__":
    start("serve")
