"""`kvcalc presets`: the shipped models, and files of one's own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command, Group

if TYPE_CHECKING:
    from kvcalc.model import Model


def list_presets(*, format: str) -> int:
    """Runs `kvcalc presets list`."""
    check_output_format(format)

    from kvcalc.io.presets import load_preset, preset_aliases, preset_names
    from kvcalc.report.gallery import Entry, Gallery

    aliases: dict[str, list[str]] = {}
    for alias, name in preset_aliases().items():
        aliases.setdefault(name, []).append(alias)
    models = {name: load_preset(name) for name in preset_names()}
    entries = tuple(
        Entry(
            name=name,
            aliases=tuple(aliases.get(name, ())),
            attention=tuple((len(group.layers), group.name, group.label) for group in model.groups),
            max_model_len=model.max_model_len,
            first_token_bytes=_first_token_bytes(model),
            source=model.source,
        )
        for name, model in models.items()
    )
    show(Gallery(entries), format)
    return 0


def _first_token_bytes(model: Model) -> int | None:
    from kvcalc.answers.size import size
    from kvcalc.errors import InvalidValueError

    try:
        return size(model, tokens=1).total_bytes
    except InvalidValueError:  # cross-attention to an encoder's tokens, of which nobody said how many
        return None


def show_preset(*, name: str) -> int:
    """Runs `kvcalc presets show`."""
    from kvcalc.io.presets import preset_path

    sys.stdout.write(asking.located("NAME", preset_path, name).read_text("utf-8"))
    return 0


def validate(*, paths: Sequence[str]) -> int:
    """Runs `kvcalc presets validate`."""
    from kvcalc.errors.foreign import visible
    from kvcalc.io.loading import load_path
    from kvcalc.units import plural

    models = [load_path(Path(path)) for path in paths]
    for path, model in zip(paths, models, strict=True):
        groups = ", ".join(f"{len(group.layers)} {group.name} {group.label}" for group in model.groups)
        found = f"{path}: {model.name} is valid: {plural(model.num_layers, 'layer')} ({groups})"
        print(visible(found))
    return 0


def new(*, path: str, assume: str | None, hub: bool) -> int:
    """Runs `kvcalc presets new`."""
    from kvcalc.io.loading import load_named, load_path
    from kvcalc.io.presets import dump_preset

    model = load_named(path, assume=assume, hub=True) if hub else load_path(Path(path), assume=assume)
    sys.stdout.write(dump_preset(model))
    return 0


COMMAND = Group(
    help="Shipped models: list and show them; validate a file; write one from a config.json.",
    commands={
        "list": Command(
            help="Every shipped preset with its attention and bytes per token.",
            epilog="Example: kvcalc presets list --format json",
            takes=(options.FORMAT,),
            run=list_presets,
        ),
        "show": Command(
            help="The preset's file, as it is.",
            epilog="Example: kvcalc presets show r1",
            takes=(options.PRESET_NAME,),
            run=show_preset,
        ),
        "validate": Command(
            help="Whether files are models that kvcalc can size; the first error is printed with its line.",
            epilog="Example: kvcalc presets validate my-model.yaml",
            takes=(options.PRESET_FILES,),
            run=validate,
        ),
        "new": Command(
            help="Writes a preset YAML, made from a config.json, to stdout.",
            epilog="Example: kvcalc presets new path/to/config.json > my-model.yaml",
            takes=(
                options.CONFIG,
                options.ASSUME,
                options.HUB._replace(help="PATH is a repository of the Hugging Face Hub."),
            ),
            run=new,
        ),
    },
)
