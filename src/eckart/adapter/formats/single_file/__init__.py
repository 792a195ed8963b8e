"""Adapters in one safetensors file: kohya, diffusers, cloneofsimo, and the naming schemes they use."""
