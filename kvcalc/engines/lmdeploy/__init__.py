"""LMDeploy: one table of blocks for all layers, slots of states beside it, and how many blocks fit.

`settings` are those of its engines, `serving` says what it makes of them for a model, `tensors` what its PyTorch engine
stores of a layer, `turbomind` what TurboMind does, `reserve` what it takes off the memory before blocks, and `plan`
what fits. Sources are paths within LMDeploy's repository, as they are in the newest version of `versions`.
"""

from kvcalc.engines.lmdeploy.engine import Lmdeploy

ENGINE = Lmdeploy
