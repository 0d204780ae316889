"""The papers' tables and figures as studies: every published number beside ours.

A study names the published numbers (`bench.studies.published.PaperRow`, `Curve`), each bound to
rows of ours by their settings, and is shown by `bench.report.tables.papers`.
"""
