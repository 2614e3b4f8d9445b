"""Model files: reading them, their configuration, their tokenizer, and tiny random models for tests."""
