"""The main job: extract an adapter from two checkpoints, and verify it from the files."""
