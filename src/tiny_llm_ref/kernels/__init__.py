"""Kernels in Metal's shading language: the body of each is in a `.metal` file, and the Python file next to it launches it."""
