"""MLX-LM: arrays that grow in steps of 256 tokens, rings for windows, quantised beyond a length.

`classes` has the MLX-LM module for a model and what it decides, `caches` the arrays of each layer, `arrays` the slots
of an array after a prompt read in chunks and tokens decoded one by one, `quantised` the arrays that are re-stored in a
few bits, and the length from which MLX-LM fails.

Source: mlx_lm/models/cache.py, generate.py and models/*.py.
"""

from kvcalc.engines.mlx_lm.engine import MlxLm

ENGINE = MlxLm
