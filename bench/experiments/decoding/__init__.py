"""Measures the decode alone: given bucket scores in, the k best labels out."""
