"""Adapters: the base model of an adapter_config.json, and whether it has the same cache.

Source: peft 0.21, utils/peft_types.py and tuners/ (what each kind adds), config.py (the base and its revision).
"""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.errors import InvalidFileError, NotApplicableError, UnknownArchitectureError
from kvcalc.errors.foreign import name_shown
from kvcalc.io.documents import Document
from kvcalc.io.fields import Fields
from kvcalc.units import shown

FILE = "adapter_config.json"
KIND, BASE, VIRTUAL = "peft_type", "base_model_name_or_path", "num_virtual_tokens"
ON_WEIGHTS = frozenset(
    (
        *("LORA", "ADALORA", "LOHA", "LOKR", "VERA", "PVERA", "VBLORA", "RANDLORA", "DELORA", "GRALORA", "TINYLORA"),
        *("GLORA", "UNILORA", "HIRA", "HRA", "FOURIERFT", "WAVEFT", "C3A", "ROAD", "MISS", "BONE", "SHIRA", "LILY"),
        *("OFT", "BOFT", "PSOFT", "OSF", "ADAMSS", "FROD", "DEFT", "BEFT", "PEANUT", "SUPERTUNING", "POLY", "IA3"),
        *("LN_TUNING", "TRAINABLE_TOKENS", "ADAPTION_PROMPT"),
    )
)
"""Kinds that change weights or activations but not the cache; adaption prompts are recomputed at each step."""
ON_PROMPTS = frozenset(("PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE"))
"""Kinds that prepend virtual tokens to every prompt, which use slots of the cache."""


class Base(NamedTuple):
    """The base model of an adapter. revision: if the adapter gives it."""

    name: str
    revision: str = ""


def base_of(document: Document) -> Base:
    """The base model of an adapter.

    Raises NotApplicableError for a kind with its own cached tokens, UnknownArchitectureError for an unknown one,
    InvalidFileError if no base is named.
    """
    config = Fields(document)
    kind, base = config.text(KIND).upper(), config.text(BASE)
    if not base:
        raise InvalidFileError(
            f"does not name the base model of the adapter ({BASE} is {shown(config.value(BASE))})",
            where=document.where((BASE,)),
            help="name the base model itself: the cache is the base model's",
        )
    if kind in ON_PROMPTS:
        raise NotApplicableError(
            f"is a {kind} adapter of {name_shown(base)}, whose {_tokens(config)} use slots of the cache before every "
            "prompt",
            where=document.where((KIND,)),
            help=f"size {name_shown(base)} and include them in --tokens",
        )
    if kind not in ON_WEIGHTS:
        raise UnknownArchitectureError(
            f"is an adapter of the kind {shown(config.value(KIND))}, whose cache is unknown",
            where=document.where((KIND,)),
            help=f"name its base model, {name_shown(base)}, if the adapter caches nothing itself",
        )
    return Base(base, config.text("revision"))


def refuse_chain(base: str, place: str) -> InvalidFileError:
    """The error for an adapter whose base is an adapter."""
    return InvalidFileError(
        f"is an adapter of {name_shown(base)}, and itself the base of an adapter",
        where=place,
        help="name the base model with the weights",
    )


def _tokens(config: Fields) -> str:
    number = config.value(VIRTUAL)
    return f"{number:,} virtual tokens" if type(number) is int else "virtual tokens"
