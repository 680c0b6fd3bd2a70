"""LMDeploy: one block table for all layers, slots of states, and how many blocks fit.

`settings` are those of its engines, `serving` derives its configuration for a model, `tensors` has what its PyTorch
engine stores for a layer, `turbomind` the same for TurboMind, `reserve` the memory set aside before blocks, and `plan`
what fits. Sources are paths within LMDeploy's repository, as they are in the newest version of `versions`.
"""

from kvcalc.engines.lmdeploy.engine import Lmdeploy

ENGINE = Lmdeploy
