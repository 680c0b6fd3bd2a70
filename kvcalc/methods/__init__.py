"""Methods: pure functions Model -> Model, one file each, so that they compose.

A method file holds `parse(argument)`, which turns the text after the colon of `gqa:16` into keyword arguments of
`apply(model, ...)`, which returns the changed model. What it assumed goes into the model's notes.
"""

from __future__ import annotations

from kvcalc.model import Model
from kvcalc.registry import Registry

METHODS = Registry("kvcalc.methods", "attention or method")


def apply_method(model: Model, spec: str) -> Model:
    """`model` changed by the method that `spec` names, such as `mqa`, `gqa:16` or `mla:512+64`.

    Raises UnknownNameError, InvalidValueError for a bad argument, NotApplicableError.
    """
    name, _, argument = spec.partition(":")
    method = METHODS.module(name.strip().lower())
    changed: Model = method.apply(model, **method.parse(argument.strip()))
    return changed
