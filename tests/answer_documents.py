"""Documents that `--format json` prints, held against their schemas."""

from __future__ import annotations

from functools import cache

import jsonschema

from kvcalc.io.schemas import schema
from kvcalc.report.sheet import Json


@cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    """Of one kind of document."""
    return jsonschema.Draft202012Validator(schema(kind))


def check_schema(document: Json) -> int:
    """Validates a document, or each of a list, by the schema that it names; how many named one."""
    documents = document if isinstance(document, list) else [document]
    named = [each for each in documents if isinstance(each, dict) and "schema" in each]
    for each in named:
        validator(each["schema"].partition("/")[0]).validate(each)
    return len(named)
