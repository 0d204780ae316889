"""Rivals of MACH: full and sampled softmax, and the trivial baselines of every table."""
