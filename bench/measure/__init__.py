"""Clocks, memory and load of a trial, each measured where it happens."""
