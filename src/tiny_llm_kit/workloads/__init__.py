"""What is to be served: prompts from people, and lists of requests to measure with."""
