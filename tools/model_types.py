"""Writes kvcalc/io/model_types.json: transformers' names and defaults of the fields that families read.

Run with the pinned transformers installed (`pip install -e '.[dev]'`): python tools/model_types.py
For each decoder type: the family that reads it, other names of its fields, and the defaults of its class.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from kvcalc.io import families, parameters
from kvcalc.io.hf_config import family_files
from kvcalc.io.parameters.classes import CLASSES as ROWS
from kvcalc.io.parameters.towers import TEXTS

TARGET = Path(families.__file__).parent.parent / "model_types.json"
MAPPINGS = ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ", "MULTIMODAL_LM")
SECTIONS = ("text_config", "decoder", "decoder_config", "thinker_config", "generator", "vlm_config", "language_config")
PAIR = "is_encoder_decoder"
NEVER_BY_DEFAULT = {"architectures"}
HARMLESS = "_harmless.py"
NAMES_ELSEWHERE = "_names.py"  # names of fields that no class of transformers has
WORDS = re.compile(r"[a-z]+(?:_[a-z0-9]+)+")
READS = re.compile(r'"([A-Za-z_][A-Za-z_0-9]*)"')


def fields_read() -> set[str]:
    """Every name that a family file writes in quotes: those of fields among them."""
    files = (path for path in Path(families.__file__).parent.glob("*.py") if path.name != NAMES_ELSEWHERE)
    sources = [path.read_text() for path in files]
    names = {name for source in sources for name in READS.findall(source)} - NEVER_BY_DEFAULT
    return names | {"max_position_embeddings", "vocab_size", PAIR}


def fields_counted() -> set[str]:
    """Words where the tensors of classes are described: fields among them."""
    files = (path for path in Path(parameters.__file__).parent.glob("*.py") if path.name != HARMLESS)
    return {name for path in files for name in WORDS.findall(path.read_text())}


def defaults_of(cls: type, read: set[str]) -> dict[str, Any]:
    """Defaults of the class's fields that some family reads, JSON values only."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        own = {usual for usual, name in cls.attribute_map.items() if name == field.name}
        if field.name not in read and not own & read:
            continue
        default = field.default if field.default is not dataclasses.MISSING else None
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if isinstance(default, bool | int | float | str | list | None):
            found[field.name] = default
    return found


def entry_of(cls: type, read: set[str], family: str) -> dict[str, Any]:
    """A decoder type's entry in the table."""
    names = {usual: own for usual, own in cls.attribute_map.items() if {usual, own} & read}
    defaults = {name: default for name, default in defaults_of(cls, read).items() if name != PAIR or default}
    return {"family": family, "names": names, "defaults": defaults}


def table() -> tuple[str, list[str]]:
    """The table as it is written, and the types that no family reads."""
    read, counted = fields_read(), fields_counted()
    family_of = {model_type: name for name, module in family_files().items() for model_type in module.MODEL_TYPES}
    types = {t for name in MAPPINGS for t in getattr(modeling_auto, f"MODEL_FOR_{name}_MAPPING_NAMES")}
    entries: dict[str, dict[str, Any]] = {model_type: {"family": family} for model_type, family in family_of.items()}
    queue = sorted(types)
    unread = []
    seen = set()
    while queue:
        model_type = queue.pop(0)
        if model_type in seen:
            continue
        seen.add(model_type)
        try:
            cls = CONFIG_MAPPING[model_type]
        except KeyError:
            cls = CLASSES.get(model_type)
        if cls is None:
            unread.append(model_type)
            continue
        CLASSES.update({sub.model_type: sub for sub in cls.sub_configs.values() if hasattr(sub, "model_type")})
        section = next(
            (name for name in SECTIONS if name in cls.sub_configs or name in COMPOSITE.get(model_type, {})), ""
        )
        if section and model_type not in family_of:
            sub = cls.sub_configs.get(section)
            section_type = COMPOSITE.get(model_type, {}).get(section) or section_type_of(cls, section, sub)
            entries[model_type] = {"section": section, "section_type": section_type}
            if getattr(cls, PAIR, False) or defaults_of(cls, {PAIR}).get(PAIR):
                entries[model_type]["defaults"] = {PAIR: True}
            queue.append(section_type)
        elif model_type in family_of:
            own = read | counted if model_type in ROWS | TEXTS else read
            entries[model_type] = entry_of(cls, own, family_of[model_type])
        else:
            unread.append(model_type)
    entries = {name: entry for name, entry in entries.items() if entry.get("section_type", name) in entries}
    lines = (f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(entries.items()))
    return "{\n" + ",\n".join(lines) + "\n}\n", sorted(unread)


def main() -> None:
    """Writes the table and lists the types that no family reads."""
    text, unread = table()
    TARGET.write_text(text)
    print(text.count("\n") - 2, "types;", "not read:", " ".join(unread))


CLASSES: dict[str, type] = {}
COMPOSITE = {
    "encoder-decoder": {"decoder": ""},
    "vision-encoder-decoder": {"decoder": ""},
    "speech-encoder-decoder": {"decoder": ""},
    "canary": {"decoder_config": "canary_decoder"},
}
"""Types whose sections transformers takes from the config alone, not from its class."""


def section_type_of(cls: type, section: str, sub: type | None) -> str:
    """Type of a section if the config does not name it."""
    try:
        return str(getattr(cls(), section).model_type)
    except Exception:  # a class that cannot be made without arguments
        return str(getattr(sub, "model_type", ""))


if __name__ == "__main__":
    main()
