"""Measured, not believed: a model's attention built from real torch modules and run, its caches held against sizing.

The only room that imports torch. `kvcalc.verify.measure` runs a model; `modules/` has one file for each attention kind.
"""
