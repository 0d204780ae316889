"""Data sets: sources, cache, splits and batches."""
