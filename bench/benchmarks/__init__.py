"""Committed comparisons of single parts; each is a module that writes its own table."""
