"""Ranking metrics of extreme classification: sparse targets, exact definitions, float64 sums.

`hits` finds predictions among the targets, `functional` and `retrieval` hold one function per
metric, `modular` the streaming form that evaluation uses, `propensity` and `groups` what training
frequencies say of labels.
"""
