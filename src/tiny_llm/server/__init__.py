"""The server: an engine behind the HTTP interface that OpenAI's clients speak."""
