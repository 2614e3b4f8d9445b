"""Kernels in Metal's shading language: the body of each lies in a `.metal` file, and the Python beside it launches it."""
