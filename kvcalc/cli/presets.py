"""`kvcalc presets`: the shipped models, and your own files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command, Group


def list_presets(*, words: Sequence[str], kind: str | None, format: str) -> int:
    """Runs `kvcalc presets list`."""
    check_output_format(format)

    from kvcalc.io.gallery import attention_kind, gallery

    named = None if kind is None else asking.located("--kind", attention_kind, kind)
    show(gallery(words, named), format)
    return 0


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
            help=("Shipped presets with attention, context and bytes per token: all, or those that match every word."),
            epilog="Examples: kvcalc presets list qwen 27b, kvcalc presets list --kind mla --format json",
            takes=(options.PRESET_WORDS, options.KIND, options.FORMAT),
            run=list_presets,
        ),
        "show": Command(
            help="Print a preset's file.",
            epilog="Example: kvcalc presets show r1",
            takes=(options.PRESET_NAME,),
            run=show_preset,
        ),
        "validate": Command(
            help="Check that kvcalc can size the models in files; prints the first error with its line.",
            epilog="Example: kvcalc presets validate my-model.yaml",
            takes=(options.PRESET_FILES,),
            run=validate,
        ),
        "new": Command(
            help="Write a preset made from a config.json to stdout.",
            epilog="Example: kvcalc presets new path/to/config.json > my-model.yaml",
            takes=(
                options.CONFIG,
                options.ASSUME,
                options.HUB._replace(help="PATH is a repository on the Hugging Face Hub."),
            ),
            run=new,
        ),
    },
)
