"""Engines: how each lays a model's tensors out in memory, a file or a folder of its own.

An engine is a frozen dataclass whose fields are its settings (`Engine`), pure, and found by its file's name:
`ENGINE = ...` names its class. What engines share is in `base`; large engines are rooms with a file for each step.
"""

from kvcalc.engines.base import ENGINES as ENGINES
from kvcalc.engines.base import Allocation as Allocation
from kvcalc.engines.base import Engine as Engine
