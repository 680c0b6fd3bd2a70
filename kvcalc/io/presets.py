"""Preset files: one model each, facts of its config only. Read, found by name, and written.

Facts at the top apply to every layer. If layers differ, `layers` names each kind of layer with its own facts, and
`layer_pattern` (repeated through the model) or `layer_types` (one name per layer) assigns them::

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

A layer of several parts names them all, as in `attention: [mla, indexer]`, and has the facts of each.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from kvcalc.attention import KINDS, kind_named
from kvcalc.errors import InvalidValueError, UnknownNameError
from kvcalc.errors.foreign import MOST_NAME, name_shown, visible
from kvcalc.hardware import GPUS_FILE, presets_folder
from kvcalc.io.documents import Document, parse_yaml, read_text
from kvcalc.io.fields import Fields
from kvcalc.io.files import is_file
from kvcalc.model import DRAFTS, MAX_LAYERS, Attention, LayerGroup, Model, Published, group_layers, repeated
from kvcalc.model.checkpoint import Checkpoint
from kvcalc.registry import plain_yaml

MODEL_FIELDS = {
    "name": "Name of the model; for shipped presets the file name.",
    "aliases": "Other names, for shipped presets.",
    "source": "Where the facts were published.",
    "model_type": "model_type of the model's config.json.",
    "max_model_len": "Context of the model, in tokens.",
    "vocab_size": "Logits per token, for which some engines reserve memory.",
    "index_topk": "Tokens, or compressed entries, that an indexer selects for a query.",
    "weights_bytes": "Bytes of the whole checkpoint's weights, as published.",
    "weights_source": "Where those bytes were published.",
    "weights_format": "Format of those weights: bf16, fp8, mxfp4 ...",
    "num_layers": "Layers of the decoder.",
    "layer_pattern": "Names of `layers`, repeated through the model and cut at its last layer.",
    "layer_types": "Names of `layers`, one per layer.",
    "layers": "Kinds of layer by name, each with its own facts.",
    "attention": "Default attention kind of layers, or a list of parts.",
    "num_mtp_layers": "Layers for multi-token prediction, added by --mtp.",
    "mtp_layer": "Which of `layers` they are; default: the kind of the model's last layer.",
}
"""Fields of a preset other than those of its attention kind, with their meaning."""

MAX_WEIGHTS_BYTES = 10**15
"""A thousand times the largest published model."""
_ALIASES = re.compile(r"^aliases: \[(.*)\]", re.MULTILINE)
_SOURCE = re.compile(r"^source: (?:[\w.-]+ \()?([\w.-]+/[\w.-]+)", re.MULTILINE)
_UNIFORM = "all"


def preset_names() -> list[str]:
    """Names of the shipped presets, sorted."""
    return sorted(path.stem for path in presets_folder().glob("*.yaml") if path.name != GPUS_FILE)


def preset_aliases() -> dict[str, str]:
    """Each alias with the name of its preset."""
    return dict(_aliases())


def _aliases() -> Iterator[tuple[str, str]]:
    """Aliases, file by file, so that a lookup stops at the first match."""
    for path in sorted(presets_folder().glob("*.yaml"), key=str):
        line = _ALIASES.search(path.read_text("utf-8"))
        for alias in line[1].split(",") if line else ():
            yield alias.strip(), path.stem


def find_preset(name: str) -> Path | None:
    """File of the shipped preset with that name or alias, ignoring case; None if there is none."""
    lowered = name.lower()
    direct = presets_folder() / f"{lowered}.yaml"
    if Path(lowered).name == lowered and direct.name != GPUS_FILE and is_file(direct):
        return direct
    preset = next((preset for alias, preset in _aliases() if alias == lowered), None)
    return None if preset is None else presets_folder() / f"{preset}.yaml"


def preset_path(name: str) -> Path:
    """File of the shipped preset of that name or alias, ignoring case. Raises UnknownNameError with the nearest."""
    path = find_preset(name)
    if path is None:
        known = [*preset_names(), *preset_aliases()]
        raise UnknownNameError.among("preset", name, known, see="`kvcalc presets list` shows all of them")
    return path


def preset_source(name: str) -> str:
    """Repository of a preset's facts; empty if there is none."""
    source = _SOURCE.search((presets_folder() / f"{name}.yaml").read_text("utf-8"))
    return source[1] if source else ""


def parameters_of(name: str) -> int | None:
    """Parameters of the whole checkpoint of that preset; None if its tensors are unknown."""
    from kvcalc.io.weights.inventories import parameters_in

    return parameters_in(name)


def load_preset(name: str) -> Model:
    """Model of the shipped preset of that name or alias. Raises UnknownNameError."""
    path = preset_path(name)
    name_in_messages = f"presets/{path.name}"
    text = read_text(path)
    plain = plain_yaml.parse(text)
    model = parse_preset(Document(name_in_messages, *plain) if plain else parse_yaml(text, name_in_messages))
    source = _SOURCE.search(text)
    checkpoint = model.checkpoint._replace(preset=path.stem, repository=source[1] if source else "")
    return replace(model, checkpoint=checkpoint)


def parse_preset(document: Document) -> Model:
    """Model of a preset document. Raises InvalidValueError and UnknownNameError with file and line."""
    top = Fields(document)
    num_layers = top.integer("num_layers", most=MAX_LAYERS)
    names = _layer_names(top, num_layers)
    num_mtp_layers = top.integer_or("num_mtp_layers", 0, most=MAX_LAYERS) or 0
    mtp_layer = top.text("mtp_layer") or names[-1]
    if "layers" in top and mtp_layer not in top.section("layers").values:
        known = top.section("layers").values
        raise UnknownNameError.among("kind of layer", mtp_layer, known).at(document.where(("mtp_layer",)))
    parts: dict[str, tuple[Attention, ...]] = {}
    origins: dict[str, Mapping[str, object]] = {}
    for name in dict.fromkeys((*names, mtp_layer) if num_mtp_layers else names):
        parts[name], origins[name] = _parts(top, name)
    top.only((*MODEL_FIELDS, *_fields_of(_kind_names(top))))
    _no_unused_layers(top, parts)
    drafts = group_layers((mtp_layer,) * num_mtp_layers, parts, origins, first=num_layers)
    return Model(
        name=name_shown(top.text("name") or Path(document.name).stem),
        groups=group_layers(names, parts, origins),
        draft_groups=tuple(replace(group, name=DRAFTS) for group in drafts),
        model_type=top.text("model_type"),
        source=top.text("source"),
        max_model_len=top.integer_or("max_model_len", None),
        published=Published(
            vocab_size=top.integer_or("vocab_size", None), index_topk=top.integer_or("index_topk", None)
        ),
        weights_bytes=top.integer("weights_bytes", most=MAX_WEIGHTS_BYTES) if "weights_bytes" in top else None,
        weights_source=top.text("weights_source"),
        checkpoint=Checkpoint(format=top.text("weights_format")),
        origins={"num_layers": top.origin("num_layers")},
    )


def dump_preset(model: Model, aliases: Sequence[str] = ()) -> str:
    """YAML text that `parse_preset` reads back as the same model, source on top."""
    groups: Mapping[str, Mapping[str, Any]] = {group.name: _group_facts(group) for group in model.groups}
    mtp_layer, groups = _mtp_layer(model, groups)
    # Common facts go to the top, unless the kind changes: a kind of layer with its own attention
    # stands alone.
    shared = {f: value for f, value in _ordered(groups) if all(own.get(f) == value for own in groups.values())}
    shared = shared if "attention" in shared else {}
    top: dict[str, Any] = {
        "source": model.source,
        "name": model.name,
        "aliases": list(aliases),
        "model_type": model.model_type,
        "max_model_len": model.max_model_len,
        "vocab_size": model.published.vocab_size,
        "index_topk": model.published.index_topk,
        "weights_bytes": model.weights_bytes,
        "weights_source": model.weights_source,
        "weights_format": model.checkpoint.format,
        "num_layers": model.num_layers,
        "num_mtp_layers": sum(len(group.layers) for group in model.draft_groups) or None,
        "mtp_layer": mtp_layer,
        **shared,
    }
    lines = [f"{name}: {_inline(value)}" for name, value in top.items() if value not in ("", [], None)]
    if list(groups) != [_UNIFORM]:
        names = model.layer_names
        pattern = _shortest_pattern(names)
        lines.append(f"{'layer_types' if len(pattern) == len(names) else 'layer_pattern'}: {_inline(list(pattern))}")
        lines.append("layers:")
        for name, own in groups.items():
            lines.append(f"  {_inline(name)}: {_inline({f: value for f, value in own.items() if f not in shared})}")
    return "\n".join(lines) + "\n"


def _layer_names(top: Fields, num_layers: int) -> tuple[str, ...]:
    pattern, types = top.texts("layer_pattern"), top.texts("layer_types")
    if pattern and types:
        raise top.wrong("layer_types", "layer_types and layer_pattern cannot both be given", "keep only one of them")
    if types and len(types) != num_layers:
        raise top.wrong(
            "layer_types",
            f"layer_types has {len(types)} names, but num_layers is {num_layers}",
            "give one name per layer",
        )
    if len(pattern) > num_layers:
        raise top.wrong(
            "layer_pattern",
            f"layer_pattern has {len(pattern)} names, but num_layers is {num_layers}",
            "shorten it or add layers",
        )
    kinds = list(top.section("layers").values) if "layers" in top else [_UNIFORM]
    if not kinds:
        raise top.wrong("layers", "layers is empty", "remove it if all layers are equal")
    if longest := [kind for kind in kinds if len(kind) > MOST_NAME]:
        raise top.wrong(
            "layers",
            f"the name of a kind of layer has {len(longest[0]):,} characters; the limit is {MOST_NAME}",
            "shorten it",
        )
    if len(kinds) > 1 and not (pattern or types):
        raise top.missing(
            "layer_pattern", f"assign the kinds to layers, for example layer_pattern: [{', '.join(kinds)}]"
        )
    names = tuple(types) or repeated(pattern or kinds, num_layers)
    for name in dict.fromkeys(names):
        if name not in kinds:
            field = "layer_types" if types else "layer_pattern"
            raise UnknownNameError.among("kind of layer", name, kinds).at(top.document.where((field,)))
    return names


def _no_unused_layers(top: Fields, used: Container[str]) -> None:
    for name in top.section("layers").values if "layers" in top else ():
        if name not in used:
            raise top.section("layers").wrong(
                name, f"no layer has the kind {name}", "remove it or add it to the pattern"
            )


def _parts(top: Fields, name: str) -> tuple[tuple[Attention, ...], dict[str, object]]:
    """Parts of the kind of layer `name`, and the place of each fact."""
    own = Fields(top.document, ("layers", name)) if "layers" in top else top
    holder = own if _kind_names(own) else top
    kind_names = _kind_names(holder)
    if not kind_names:
        raise top.missing("attention", "add for example attention: gqa; `kvcalc schema preset` lists all kinds")
    try:
        kinds = {kind_name: kind_named(kind_name) for kind_name in kind_names}
    except UnknownNameError as error:
        raise error.at(holder.document.where((*holder.path, "attention"))) from None
    known = _fields_of(kind_names)
    # A kind of layer with its own attention stands alone; others inherit missing facts from the top.
    sources = (own,) if holder is own else (own, top)
    for source in sources:
        source.only([*known, "attention", *(MODEL_FIELDS if source is top else ())])
    found = {f: next(s for s in sources if f in s) for f in known if any(f in s for s in sources)}
    parts = []
    for kind_name, kind in kinds.items():
        facts_of_kind = _fields_of([kind_name])
        for field, required in facts_of_kind.items():
            if required and field not in found:
                raise own.missing(field, f"{kind_name} needs it; `kvcalc schema preset` lists all fields")
        try:
            part = kind(**{f: found[f].values[f] for f in facts_of_kind if f in found})
        except InvalidValueError as error:
            raise found.get(error.field, own).located(error.field, error) from None
        parts.append(part)
    return tuple(parts), {field: source.origin(field) for field, source in found.items()}


def _kind_names(fields_of_layer: Fields) -> list[str]:
    """Names of the parts of a layer: one, or a list of them."""
    value = fields_of_layer.values.get("attention")
    if isinstance(value, list):
        return fields_of_layer.texts("attention")
    return [name] if (name := fields_of_layer.text("attention")) else []


def _fields_of(kind_names: Iterable[str]) -> dict[str, bool]:
    """Facts of all parts, and whether each is required."""
    known: dict[str, bool] = {}
    for name in kind_names:
        for field in fields(kind_named(name)):
            known[field.name] = known.get(field.name, False) or field.default is MISSING
    return known


def _group_facts(group: LayerGroup) -> dict[str, Any]:
    kinds = {kind_named(name): name for name in KINDS.names()}
    names = [kinds[type(part)] for part in group.parts]
    return {"attention": names[0] if len(names) == 1 else names, **group.facts}


def _mtp_layer(
    model: Model, groups: Mapping[str, Mapping[str, Any]]
) -> tuple[str | None, Mapping[str, Mapping[str, Any]]]:
    """The group of the multi-token-prediction layers among `groups` (None: the last layer's), adding one if needed."""
    if not model.draft_groups:
        return None, groups
    own = _group_facts(model.draft_groups[0])
    same = [name for name, facts_of_group in groups.items() if facts_of_group == own]
    if not same:
        return DRAFTS, {**groups, DRAFTS: own}
    return (None if model.layer_names[-1] in same else same[0]), groups


def _ordered(groups: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Any]]:
    return list(next(iter(groups.values())).items())


def _inline(value: Any) -> str:
    """A value as YAML on one line, quoted if YAML would read it differently."""
    import yaml

    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    foreign = any(isinstance(text, str) and visible(text) != text for text in texts)
    style = '"' if foreign else None
    text: str = yaml.safe_dump(value, default_flow_style=True, default_style=style, width=10**6, sort_keys=False)
    return text.removesuffix("...\n").strip().replace("##", r"\x23#" if foreign else "##")


def _shortest_pattern(names: tuple[str, ...]) -> tuple[str, ...]:
    return next(names[:n] for n in range(1, len(names) + 1) if repeated(names[:n], len(names)) == names)
