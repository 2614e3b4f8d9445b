"""The machine: what it is, how busy it is, and how to compute fast on it."""
