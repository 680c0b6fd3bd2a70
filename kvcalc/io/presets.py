"""Preset files: one model each, facts of its config only. Read, found by name, and written.

Facts at the top hold for every layer. Where layers differ, `layers` names each kind of layer and what it has that is
its own, and `layer_pattern` (repeated down the model) or `layer_types` (one name for each layer) says which is where::

    name: gpt-oss-20b
    num_layers: 24
    attention: gqa
    num_query_heads: 64
    num_kv_heads: 8
    head_dim: 64
    layer_pattern: [sliding, full]
    layers:
      sliding: {sliding_window: 128}
      full: {}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from kvcalc.attention import KINDS, kind_named
from kvcalc.errors import InvalidValueError, UnknownNameError
from kvcalc.io import plain_yaml
from kvcalc.io.documents import Document, parse_yaml, read_text
from kvcalc.io.fields import Fields
from kvcalc.model import MAX_LAYERS, Attention, Model, facts, group_layers, repeated

GPUS_FILE = "gpus.yaml"
MODEL_FIELDS = {
    "name": "Name of the model; a shipped preset's is its file's.",
    "aliases": "Other names, for shipped presets.",
    "source": "Where the facts were published.",
    "model_type": "model_type of the model's config.json.",
    "max_model_len": "Longest context that the model was made for, in tokens.",
    "num_layers": "Layers of the decoder.",
    "layer_pattern": "Names of `layers`, repeated down the model and cut at its last layer.",
    "layer_types": "Names of `layers`, one for each layer.",
    "layers": "Kinds of layer by name, each with the facts that are its own.",
    "attention": "Attention kind of every layer that names none.",
}
"""Fields of a preset beside those of its attention kind, with their meaning."""

_ALIASES = re.compile(r"^aliases: \[(.*)\]", re.MULTILINE)
_UNIFORM = "all"


def presets_folder() -> Path:
    """Folder of the shipped presets: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "presets"
    return inside if inside.is_dir() else package.parent / "presets"


def preset_names() -> list[str]:
    """Names of the shipped presets, sorted."""
    return sorted(path.stem for path in presets_folder().glob("*.yaml") if path.name != GPUS_FILE)


def preset_aliases() -> dict[str, str]:
    """Each alias with the name of its preset."""
    aliases = {}
    for path in sorted(presets_folder().glob("*.yaml")):
        line = _ALIASES.search(path.read_text("utf-8"))
        for alias in line[1].split(",") if line else ():
            aliases[alias.strip()] = path.stem
    return aliases


def preset_path(name: str) -> Path:
    """File of the shipped preset of that name or alias, in any case. Raises UnknownNameError with the nearest."""
    lowered = name.lower()
    direct = presets_folder() / f"{lowered}.yaml"
    if Path(lowered).name == lowered and direct.name != GPUS_FILE and direct.is_file():
        return direct
    aliases = preset_aliases()
    if lowered not in aliases:
        known = [*preset_names(), *aliases]
        raise UnknownNameError.among("preset", name, known, see="`kvcalc presets list` shows them all")
    return presets_folder() / f"{aliases[lowered]}.yaml"


def load_preset(name: str) -> Model:
    """Model of the shipped preset of that name or alias. Raises UnknownNameError."""
    path = preset_path(name)
    name_in_messages = f"presets/{path.name}"
    text = read_text(path)
    plain = plain_yaml.parse(text)
    return parse_preset(Document(name_in_messages, *plain) if plain else parse_yaml(text, name_in_messages))


def parse_preset(document: Document) -> Model:
    """Model of a preset document. Raises InvalidValueError and UnknownNameError with file and line."""
    top = Fields(document)
    num_layers = top.integer("num_layers", most=MAX_LAYERS)
    names = _layer_names(top, num_layers)
    attention: dict[str, Attention] = {}
    origins: dict[str, Mapping[str, str]] = {}
    for name in dict.fromkeys(names):
        attention[name], origins[name] = _attention(top, name)
    top.only((*MODEL_FIELDS, *_fields_of(top.text("attention"))))
    _no_unused_layers(top, names)
    return Model(
        name=top.text("name") or Path(document.name).stem,
        groups=group_layers(names, attention, origins),
        model_type=top.text("model_type"),
        source=top.text("source"),
        max_model_len=top.integer_or("max_model_len", None),
        origins={"num_layers": top.origin("num_layers")},
    )


def dump_preset(model: Model, aliases: Sequence[str] = ()) -> str:
    """YAML text that `parse_preset` reads back as the same model, source on top."""
    groups = {group.name: _group_facts(group.attention) for group in model.groups}
    everywhere = dict(set.intersection(*(set(own.items()) for own in groups.values())))
    # Facts that all layers have go to the top, but not past a change of kind: a kind of layer with an attention of
    # its own stands alone.
    shared = {name: value for name, value in _ordered(groups) if everywhere.get(name) == value}
    shared = shared if "attention" in shared else {}
    top: dict[str, Any] = {
        "source": model.source,
        "name": model.name,
        "aliases": list(aliases),
        "model_type": model.model_type,
        "max_model_len": model.max_model_len,
        "num_layers": model.num_layers,
        **shared,
    }
    lines = [f"{name}: {_inline(value)}" for name, value in top.items() if value not in ("", [], None)]
    if list(groups) != [_UNIFORM]:
        names = model.layer_names
        pattern = _shortest_pattern(names)
        lines.append(f"{'layer_types' if len(pattern) == len(names) else 'layer_pattern'}: {_inline(list(pattern))}")
        lines.append("layers:")
        for name, own in groups.items():
            lines.append(f"  {name}: {_inline({f: value for f, value in own.items() if f not in shared})}")
    return "\n".join(lines) + "\n"


def _layer_names(top: Fields, num_layers: int) -> tuple[str, ...]:
    pattern, types = top.texts("layer_pattern"), top.texts("layer_types")
    if pattern and types:
        raise top.wrong("layer_types", "layer_types and layer_pattern cannot both be given", "keep one of them")
    if types and len(types) != num_layers:
        raise top.wrong(
            "layer_types", f"layer_types has {len(types)} names and num_layers is {num_layers}", "name each layer once"
        )
    if len(pattern) > num_layers:
        raise top.wrong(
            "layer_pattern",
            f"layer_pattern has {len(pattern)} names and num_layers is {num_layers}",
            "shorten it or add layers",
        )
    kinds = list(top.section("layers").values) if "layers" in top else [_UNIFORM]
    if not kinds:
        raise top.wrong("layers", "layers names no kind of layer", "remove it where all layers are alike")
    if len(kinds) > 1 and not (pattern or types):
        raise top.missing("layer_pattern", f"say which layer is which, as in layer_pattern: [{', '.join(kinds)}]")
    names = tuple(types) or repeated(pattern or kinds, num_layers)
    for name in dict.fromkeys(names):
        if name not in kinds:
            field = "layer_types" if types else "layer_pattern"
            raise UnknownNameError.among("kind of layer", name, kinds).at(top.document.where((field,)))
    return names


def _no_unused_layers(top: Fields, names: tuple[str, ...]) -> None:
    for name in top.section("layers").values if "layers" in top else ():
        if name not in names:
            raise top.section("layers").wrong(
                name, f"no layer is of the kind {name}", "remove it or add it to the pattern"
            )


def _attention(top: Fields, name: str) -> tuple[Attention, dict[str, str]]:
    """Attention of the kind of layer `name`, and where each of its facts stands."""
    own = Fields(top.document, ("layers", name)) if "layers" in top else top
    holder = own if own.text("attention") else top
    kind_name = holder.text("attention")
    if not kind_name:
        raise top.missing("attention", f"one of {', '.join(KINDS.names())}")
    try:
        kind = kind_named(kind_name)
    except UnknownNameError as error:
        raise error.at(holder.document.where((*holder.path, "attention"))) from None
    known = _fields_of(kind_name)
    # A kind of layer that names its own attention stands alone; another takes what it lacks from the top.
    sources = (own,) if holder is own else (own, top)
    for source in sources:
        source.only([*known, "attention", *(MODEL_FIELDS if source is top else ())])
    found = {f: next(s for s in sources if f in s) for f in known if any(f in s for s in sources)}
    for field, required in known.items():
        if required and field not in found:
            raise own.missing(field, f"{kind_name} needs it; `kvcalc schema preset` lists all fields")
    try:
        attention: Attention = kind(**{field: source.values[field] for field, source in found.items()})
    except InvalidValueError as error:
        raise found.get(error.field, own).located(error.field, error) from None
    return attention, {field: source.origin(field) for field, source in found.items()}


def _fields_of(kind_name: str) -> dict[str, bool]:
    """Facts of an attention kind, and whether each must be given; none for no kind."""
    return {f.name: f.default is MISSING for f in fields(kind_named(kind_name))} if kind_name else {}


def _group_facts(attention: Attention) -> dict[str, Any]:
    kind = next(name for name in KINDS.names() if isinstance(attention, kind_named(name)))
    return {"attention": kind, **facts(attention)}


def _ordered(groups: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Any]]:
    return list(next(iter(groups.values())).items())


def _inline(value: Any) -> str:
    """A value as YAML on one line, quoted where YAML would read something else."""
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _shortest_pattern(names: tuple[str, ...]) -> tuple[str, ...]:
    return next(names[:n] for n in range(1, len(names) + 1) if repeated(names[:n], len(names)) == names)
