"""`pdm run batch-main`: answer a batch of prompts through continuous batching, and watch it."""

from start import start

if __name__ == "__main__":
    start("batch_main")
