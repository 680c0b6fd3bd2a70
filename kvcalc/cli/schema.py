"""`kvcalc schema`: JSON Schemas, for editors that complete plan and preset files."""

import sys
from typing import Annotated

import typer

from kvcalc.cli import _options
from kvcalc.cli._options import command_app

app = command_app()


@app.command(help="The JSON Schema of plan or preset files.", epilog="Example: kvcalc schema plan > plan.schema.json")
def schema(kind: Annotated[str, typer.Argument(metavar="plan|preset", help="Which kind of file.")]) -> None:
    """Runs `kvcalc schema`."""
    from json import dumps

    from kvcalc.io.schemas import schema as schema_of

    sys.stdout.write(dumps(_options.located("KIND", schema_of, kind), indent=2) + "\n")
