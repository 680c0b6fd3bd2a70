"""Rows of vLLM: reading, rewriting and comparing them, for `measure_vllm.py` and `measure_vllm_cpu.py`."""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, cast

Row = dict[str, Any]
ENGINE = "vllm@"
SECTIONS = ("text_config", "llm_config", "language_config")


def opened(path: Path, mode: str = "rt") -> IO[str]:
    """A file of lines, gzip or plain."""
    return cast(IO[str], gzip.open(path, mode)) if path.suffix == ".gz" else path.open(mode)


def chosen(rows: Iterable[Row], version: str | None, name: str | None) -> list[Row]:
    """Rows of one version (the newest that has any, if none is named), and of one model if that is named."""
    found = list(rows)
    newest = max((version_of(row) for row in found), key=_numbers, default="")
    asked = version or newest
    return [row for row in found if version_of(row) == asked and name in (None, row["name"])]


def version_of(row: Row) -> str:
    """The version of vLLM that a row is of, empty where it names none."""
    return str(row["question"].get("engine", "")).partition("@")[2]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def arguments_of(question: Row) -> Row:
    """Arguments of EngineArgs for a question, without what only kvcalc names."""
    settings = dict(question.get("engine_settings", {}))
    for name in ("gpu", "usage"):
        settings.pop(name, None)
    drafts = {"speculative_config": settings.pop("speculative")} if "speculative" in settings else {}
    parallel = question.get("parallel", {})
    ranks = {
        "tensor_parallel_size": parallel.get("tp", 1),
        "pipeline_parallel_size": parallel.get("pp", 1),
        "decode_context_parallel_size": parallel.get("dcp", 1),
    }
    return {**settings, **drafts, **ranks}


def config_of(row: Row, folder: Path | None) -> Row:
    """The row's config.json, or its model's in the folder, without its quantised weights."""
    if "config" not in row and folder is None:
        raise SystemExit(f"{row['name']}: no config in the row, and no --configs to find {row['model']}.json in")
    config = row.get("config") or json.loads(Path(folder or "", f"{row['model']}.json").read_text())
    sections = [key for key in SECTIONS if isinstance(config.get(key), dict)]
    inner = {key: _unquantised(config[key]) for key in sections}
    return _unquantised(config) | inner


def with_drafter(row: Row, folder: str) -> Row:
    """The row's question, with the model that drafts, if it has one, as a folder in this one."""
    question: Row = row["question"]
    if "drafter" not in row:
        return question
    draft = Path(folder, "drafter")
    draft.mkdir()
    (draft / "config.json").write_text(json.dumps(row["drafter"]))
    settings = question["engine_settings"]
    speculative = {**settings["speculative"], "model": str(draft)}
    return {**question, "engine_settings": {**settings, "speculative": speculative}}


def _unquantised(config: Row) -> Row:
    return {key: value for key, value in config.items() if key != "quantization_config"}


def row_of(row: Row, version: str, answer: Row) -> Row:
    """The row of this version, with its answer as what is wanted."""
    question = {**row["question"], "engine": f"{ENGINE}{version.partition('+')[0]}"}
    if "refused" in answer:
        return {**row, "question": question, "want": {"refused": True}, "words": answer["refused"]}
    return {**row, "question": question, "want": answer}


def differences(rows: Iterable[Row], found: Iterable[Row]) -> list[str]:
    """A line for each row whose answer changed."""
    return [
        f"{row['name']} {row['question']}: {row['want']}, now {new['want']} {new.get('words', '')}".rstrip()
        for row, new in zip(rows, found, strict=True)
        if row["want"] != new["want"]
    ]


def run(description: str | None, measured: Callable[[list[Row], Path | None], Iterable[Row]]) -> int:
    """Measures the rows that are asked for. Returns 1 if --check finds an answer that differs from the row's."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=Path, help="rows, JSON lines, gzip or plain")
    parser.add_argument("measured", type=Path, nargs="?", help="output file")
    parser.add_argument("--configs", type=Path, help="folder of config.json files that rows name as their model")
    parser.add_argument("--of", help="measure the rows of this version (default: the newest in the file)")
    parser.add_argument("--only", help="measure only the rows of this name")
    parser.add_argument("--check", action="store_true", help="compare with the rows' own numbers and write nothing")
    options = parser.parse_args()
    if not (options.check or options.measured):
        parser.error("say where the measured rows go, or --check")
    with opened(options.questions) as lines:
        rows = chosen(map(json.loads, lines), options.of, options.only)
    found = list(measured(rows, options.configs))
    if not options.check:
        with opened(options.measured, "wt") as out:
            out.writelines(f"{json.dumps(row)}\n" for row in found)
        return 0
    wrong = differences(rows, found)
    print("\n".join([*wrong, f"{len(rows) - len(wrong)} of {len(rows)} as before"]))
    return 1 if wrong else 0
