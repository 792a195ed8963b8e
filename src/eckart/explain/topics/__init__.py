"""One file to a topic: what is worked out, step by step."""
