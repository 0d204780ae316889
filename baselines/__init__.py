"""Rivals of MACH: full and sampled softmax, and the floors that every table shows."""
