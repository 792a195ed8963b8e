"""Applications of low-rank approximation other than adapters: image compression and recommendations."""
