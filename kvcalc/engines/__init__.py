"""Engines: how each lays out a model's tensors in memory, one file or folder per engine.

An engine is a frozen dataclass whose fields are its settings (`Engine`), pure, and found by its file's name:
`ENGINE = ...` names its class. Shared code is in `base`; large engines are folders with a file for each step.
"""

from kvcalc.engines.base import ENGINES as ENGINES
from kvcalc.engines.base import Allocation as Allocation
from kvcalc.engines.base import Engine as Engine
