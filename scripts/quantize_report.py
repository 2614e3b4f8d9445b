"""`pdm run quantize-report`: what quantized weights save, and what they cost."""

from start import start

if __name__ == "__main__":
    start("quantize_report")
