"""Data sets that the papers use: what they are, where they lie, and bringing them here safely."""
