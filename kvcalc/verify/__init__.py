"""Measured, not believed: attention built from real torch modules and run, its caches compared with sizing.

The only package that imports torch. `kvcalc.verify.measure` runs a model; `modules/` has one file for each attention
kind.
"""
