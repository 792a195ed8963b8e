"""Derivatives seen and checked: the Wengert list, its costs and drawings, the checks of derivatives."""
