"""The figures: what they show is collected from sections, then drawn by a few shared forms."""
