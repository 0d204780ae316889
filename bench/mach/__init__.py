"""MACH: hash families, stacked worlds, estimators and exact decoding."""
