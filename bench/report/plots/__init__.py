"""The figures: each module collects what it shows from a section, then draws it."""
