"""Trained models that last: a folder that predicts raw points, from the shell and from Python."""
