"""tools/: what measures an engine into rows, here with answers that were recorded instead of the engine."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "tests" / "data" / "llama_cpp.jsonl.gz"
REPLAY = """
import json, sys
recorded = json.loads(open({answers!r}).read())
for context in json.loads(sys.argv[2]):
    print(json.dumps(recorded[json.dumps(context, sort_keys=True)]), flush=True)
"""


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("measure_llama_cpp", ROOT / "tools" / "measure_llama_cpp.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(model: str) -> list[dict]:
    with gzip.open(ROWS, "rt") as lines:
        return [
            row
            for row in map(json.loads, lines)
            if row["model"] == model and "engine rule" in row.get("reject_kind", "engine rule")
        ]


@pytest.mark.parametrize("model", ["gemma-2-9b", "jamba-mini", "deepseek-v3 (MLA)", "deepseek-v4-like"])
def test_rows_of_llama_cpp_are_measured_again_as_they_were(tool, model, tmp_path):
    rows = rows_of(model)
    recorded = {
        json.dumps(tool.context(row), sort_keys=True): {
            "refused": row["log"][-1] if row.get("rejected") else None,
            "log": row["log"],
        }
        for row in rows
    }
    answers, script = tmp_path / "answers.json", tmp_path / "replay.py"
    answers.write_text(json.dumps(recorded))
    script.write_text(REPLAY.format(answers=str(answers)))
    found = list(tool.measured(rows, script))
    assert all(map(tool.agrees, rows, found))
    wrong = [{**row, "engine_bytes": row.get("engine_bytes", 0) + 2**20} for row in rows]
    assert not any(tool.agrees(row, new) for row, new in zip(wrong, found, strict=True) if not new["refused"])
    assert not any(
        tool.agrees({**row, "rejected": not row.get("rejected")}, new) for row, new in zip(rows, found, strict=True)
    )
