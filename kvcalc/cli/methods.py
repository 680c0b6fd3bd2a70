"""`kvcalc methods`: what reduces a cache, and with which parameters."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Rational
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvcalc.cli import _options
from kvcalc.cli._options import command_app
from kvcalc.cli._output import check_output_format, show

if TYPE_CHECKING:
    from kvcalc.report.methods import MethodEntry

app = command_app("Methods that reduce a cache: list them, or show one with its parameters.")


@app.command("list", epilog="Example: kvcalc methods list")
def list_methods(format: _options.Format = "table") -> None:
    """Every method, with what it asks for."""
    check_output_format(format)

    from kvcalc.methods import METHODS
    from kvcalc.report.methods import MethodList

    show(MethodList(tuple(map(entry_of, METHODS.names()))), format)


@app.command("show", epilog="Example: kvcalc methods show snapkv")
def show_method(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Method, as `kvcalc methods list` names it.")],
    format: _options.Format = "table",
) -> None:
    """One method: formula, parameters with their defaults, caveat, source."""
    check_output_format(format)

    from kvcalc.report.methods import MethodPage

    show(MethodPage(_options.located("NAME", entry_of, name.lower())), format)


def entry_of(name: str, arguments: Mapping[str, Any] | None = None) -> MethodEntry:
    """A method with its parameters: their defaults, or what they were given."""
    from inspect import getdoc

    from kvcalc.methods import METHODS, parameters
    from kvcalc.report.methods import MethodEntry

    method = METHODS.module(name)
    words = {key: _in_words(value) for key, value in (arguments or parameters(method.apply)).items()}
    traits = {trait: value for trait, value in method.TRAITS._asdict().items() if trait != "parse"}
    return MethodEntry(name, **traits, parameters=words, description=getdoc(method.apply) or "")


def _in_words(default: Any) -> str:
    """A default as users write it."""
    if default is ...:
        return "must be given"
    if default is None or default == ():
        return "none"
    if isinstance(default, tuple):
        return "+".join(map(str, default))
    if isinstance(default, Rational) and not isinstance(default, int):
        return f"{float(default):g}"
    return str(default).lower() if isinstance(default, bool) else str(default)
