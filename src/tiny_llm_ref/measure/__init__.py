"""Measuring: what requests lived through, what a step costs, and what a schedule would do on another machine."""
