"""`pdm run load-test`: locust asks a real server for more and more, and every answer must be whole, and the right one."""

from start import start

if __name__ == "__main__":
    start("load_test")
