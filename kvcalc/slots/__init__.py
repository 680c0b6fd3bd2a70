"""Slot rules: how many slots of a cache tensor t tokens take. A small closed algebra, one room for each user of it."""
