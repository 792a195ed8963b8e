"""PEFT folders: weights, configuration, patterns, whole tensors, and pipelines of several models."""
