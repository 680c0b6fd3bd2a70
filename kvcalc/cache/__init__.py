"""The one idea: a cache is named tensors with named dimensions, a format, and a rule by which their slots grow.

`tensor` is that value, `dtypes` its formats, `packing` how quantised elements lie in words, `slots/` the rules.
"""
