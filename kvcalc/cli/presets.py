"""`kvcalc presets`: the shipped models, and files of one's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvcalc.cli import _options
from kvcalc.cli._options import command_app
from kvcalc.cli._output import check_output_format, show

if TYPE_CHECKING:
    from kvcalc.model import Model

app = command_app("Shipped models: list and show them; validate a file; write one from a config.json.")


@app.command(
    "list",
    help="Every shipped preset with its attention and bytes per token.",
    epilog="Example: kvcalc presets list --format json",
)
def list_presets(format: _options.Format = "table") -> None:
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


def _first_token_bytes(model: Model) -> int | None:
    from kvcalc.answers.size import size
    from kvcalc.errors import InvalidValueError

    try:
        return size(model, tokens=1).total_bytes
    except InvalidValueError:  # cross-attention to an encoder's tokens, of which nobody said how many
        return None


@app.command("show", help="The preset's file, as it is.", epilog="Example: kvcalc presets show r1")
def show_preset(
    name: Annotated[str, typer.Argument(help="Preset or alias.", autocompletion=_options.complete_preset)],
) -> None:
    """Runs `kvcalc presets show`."""
    from kvcalc.io.presets import preset_path

    sys.stdout.write(_options.located("NAME", preset_path, name).read_text("utf-8"))


@app.command(
    "validate",
    help="Whether files are models that kvcalc can size; the first error is printed with its line.",
    epilog="Example: kvcalc presets validate my-model.yaml",
)
def validate(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Preset files or config.json files.")],
) -> None:
    """Runs `kvcalc presets validate`."""
    from kvcalc.foreign import visible
    from kvcalc.io.loading import load_path
    from kvcalc.units import plural

    models = [load_path(path) for path in paths]
    for path, model in zip(paths, models, strict=True):
        groups = ", ".join(f"{len(group.layers)} {group.name} {group.label}" for group in model.groups)
        found = f"{path}: {model.name} is valid: {plural(model.num_layers, 'layer')} ({groups})"
        typer.echo(visible(found))


@app.command(
    "new",
    help="Writes a preset YAML, made from a config.json, to stdout.",
    epilog="Example: kvcalc presets new path/to/config.json > my-model.yaml",
)
def new(
    path: Annotated[Path, typer.Argument(help="A config.json, or a directory that holds one.")],
    assume: _options.Assume = None,
) -> None:
    """Runs `kvcalc presets new`."""
    from kvcalc.io.loading import load_path
    from kvcalc.io.presets import dump_preset

    sys.stdout.write(dump_preset(load_path(path, assume=assume)))
