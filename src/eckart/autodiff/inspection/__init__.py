"""Inspection of derivatives: the Wengert list with its costs and drawings, and checks against differences."""
