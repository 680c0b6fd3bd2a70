"""Slot rules: the slots of a cache tensor for t tokens.

`algebra` defines what an expression over t answers, `primitives` are the few building blocks, `rule` gives an
expression its words. Named rules are grouped by origin: `layers`, `engines`, `methods`.
"""
