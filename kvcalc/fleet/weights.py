"""How many bytes a model's weights take, and who says so: they are given or published, and never guessed."""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.errors import InvalidValueError
from kvcalc.methods import METHODS
from kvcalc.methods._traits import ARCHITECTURE
from kvcalc.model import Model
from kvcalc.units import shown

GIVEN = "given"
HOW_TO_SAY = "write 671GB or 625GiB, or the path of a model.safetensors.index.json, safetensors files or a GGUF file"


class Weights(NamedTuple):
    """Bytes of a whole model's weights, and where the number came from."""

    bytes: int
    source: str


def weights_of(model: Model, given_bytes: int | Weights | None = None) -> Weights:
    """The weights as they are given (or read by somebody, who says from where), or else as the authors published them.

    Raises InvalidValueError where neither says them, or where the model was rebuilt as another architecture, which
    nobody published.
    """
    if isinstance(given_bytes, Weights):
        return given_bytes
    if given_bytes is not None:
        if type(given_bytes) is not int or given_bytes < 0:
            raise InvalidValueError(
                f"weights_bytes must be a number of bytes, not {shown(given_bytes)}",
                field="weights_bytes",
                help="for instance weights_bytes=2**30",
            )
        return Weights(given_bytes, GIVEN)
    rebuilt = [each.name for each in model.methods if METHODS.module(each.name).TRAITS.kind == ARCHITECTURE]
    if model.weights_bytes is None or rebuilt:
        why = f"; as {rebuilt[-1]} nobody published the model" if rebuilt else ""
        raise InvalidValueError(
            f"nothing says how large the weights are{why}",
            field="weights",
            help=HOW_TO_SAY,
        )
    return Weights(model.weights_bytes, f"as published ({model.weights_source or model.source})")
