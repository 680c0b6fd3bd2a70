"""MLX-LM: arrays that grow by whole steps of 256 tokens, rings for windows, quantised once they are long.

`classes` says which of MLX-LM's modules serves a model and what that decides, `caches` which arrays each layer has,
`arrays` how many slots an array has after a prompt that was read in chunks and tokens decoded one by one, `quantised`
which arrays are stored anew in a few bits, and from which length on MLX-LM fails.

Source: mlx_lm/models/cache.py, generate.py and models/*.py.
"""

from kvcalc.engines.mlx_lm.engine import MlxLm

ENGINE = MlxLm
