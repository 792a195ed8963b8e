"""What the decompositions are good for: images, and more to come."""
