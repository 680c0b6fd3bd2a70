"""The one idea: a cache is named tensors with named dimensions, a format, and a rule by which their slots grow.

`tensor` is that value, `dtypes` its formats, `packing` the layout of quantised elements in words, `slots/` the rules.
"""
