"""The paged engine: keys and values are stored in small blocks, and a step's decodes and prompt chunks share one call of the
model."""
