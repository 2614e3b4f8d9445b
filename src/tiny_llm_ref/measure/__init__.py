"""Measuring: how long requests took, what a step costs, and what a schedule would do on another machine."""
