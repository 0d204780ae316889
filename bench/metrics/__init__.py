"""Ranking metrics of extreme classification: sparse targets, exact definitions, float64 sums.

`hits` finds predictions among the targets, `functional` has a function for each metric,
`torchmetric` the streaming form that evaluation uses, `frequency` what training frequencies say of
labels.
"""
