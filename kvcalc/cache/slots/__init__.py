"""Slot rules: how many slots of a cache tensor t tokens take.

`algebra` says what an expression over t answers, `primitives` are the few of which all others are made, `rule` gives an
expression its words. Named rules stand by who makes them: `layers`, `engines`, `methods`.
"""
