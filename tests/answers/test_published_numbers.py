"""Numbers from papers, engines and measurements: tests/published_numbers.yaml, through the API and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import kvcalc

ROWS = [
    {**row, "tokens": tokens, "bytes": number}
    for row in yaml.safe_load((Path(__file__).parents[1] / "published_numbers.yaml").read_text())
    for tokens, number in (
        zip(row["tokens"], row["bytes"], strict=True)
        if isinstance(row["tokens"], list)
        else [(row["tokens"], row["bytes"])]
    )
]


def answer(row) -> int:
    model = kvcalc.load(row["model"])
    if "attention" in row:
        model = kvcalc.apply_method(model, row["attention"])
    report = kvcalc.size(
        model,
        tokens=row["tokens"],
        sequences=row.get("sequences", 1),
        kv_dtype=row.get("kv_dtype", "bf16"),
        engine=row.get("engine", "ideal"),
        engine_settings=row.get("engine_settings", {}),
    )
    return getattr(report, row.get("what", "total_bytes"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['source'][:50]}, {row['tokens']}")
def test_the_number_is_the_published_one(row):
    assert answer(row) == row["bytes"]


def test_a_wrong_number_is_noticed():
    with pytest.raises(AssertionError):
        test_the_number_is_the_published_one({**ROWS[0], "bytes": ROWS[0]["bytes"] + 1})


@pytest.mark.parametrize(
    "row", [row for row in ROWS if isinstance(row["model"], str)][:14], ids=lambda row: row["source"][:50]
)
def test_the_command_line_gives_the_same_number(cli, row):
    line = f"size --preset {row['model']} --tokens {row['tokens']} --batch {row.get('sequences', 1)} --format json"
    line += f" --dtype {row.get('kv_dtype', 'bf16')}"
    line += f" --attention {row['attention']}" if "attention" in row else ""
    line += "".join(f" --engine-set {name}={value}" for name, value in row.get("engine_settings", {}).items())
    assert json.loads(cli(line).stdout)[row.get("what", "total_bytes")] == row["bytes"]
