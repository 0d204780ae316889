"""MACH against full and sampled softmax: memory, time and accuracy at a given number of labels."""

__version__ = "0.1.0"
