"""`kvcalc schema`: JSON Schemas, for editors of plan and preset files and for readers of answers."""

from __future__ import annotations

import sys

from kvcalc.cli import asking, options
from kvcalc.cli.commands import Command


def run(*, kind: str) -> int:
    """Runs `kvcalc schema`."""
    from json import dumps

    from kvcalc.io.schemas import schema as schema_of

    sys.stdout.write(dumps(asking.located("KIND", schema_of, kind), indent=2) + "\n")
    return 0


COMMAND = Command(
    help="The JSON Schema of plan or preset files, or of what --format json prints.",
    epilog="Example: kvcalc schema plan > plan.schema.json",
    takes=(options.SCHEMA_KIND,),
    run=run,
)
