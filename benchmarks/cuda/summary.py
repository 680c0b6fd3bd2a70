"""Joins the steps' results into one file, cuda-DEVICE.json, and prints what they say; run again after each step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from _step import Step

STEPS = ("about", "overheads", "presets", "variants", "against")
MIB, GIB = 2**20, 2**30


def tests_of(path: Path) -> dict[str, Any]:
    """Counts of a JUnit file, and the first lines of what failed."""
    suite = ElementTree.parse(path).getroot().find("testsuite")
    assert suite is not None
    wrong = [
        {"test": case.get("name"), "why": (problem.get("message") or "")[:400]}
        for case in suite.iter("testcase")
        for problem in case
        if problem.tag in ("failure", "error")
    ]
    return {"tests": int(suite.get("tests", 0)), "skipped": int(suite.get("skipped", 0)), "failed": wrong}


def found_in(folder: Path) -> dict[str, Any]:
    """All results that are there."""
    paths = {name: folder / f"{name}.json" for name in STEPS}
    found: dict[str, Any] = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    found["tests"] = {path.stem: tests_of(path) for path in sorted(folder.glob("*.xml")) if path.stat().st_size}
    return found


def lines(found: dict[str, Any]) -> Iterator[str]:
    """For people."""
    about = found.get("about", {})
    yield ", ".join(f"{name} {about[name]}" for name in ("device", "torch", "cuda") if name in about)
    if "copy_bytes_per_second" in about:
        copies, products = about["copy_bytes_per_second"], about["bf16_operations_per_second"]
        yield f"copies {copies / 1e12:.2f} TB/s, multiplies {products / 1e12:.0f} TFLOP/s in bf16"
    for name, tests in found["tests"].items():
        yield f"{name}: {tests['tests'] - len(tests['failed'])} of {tests['tests']} tests pass"
        yield from (f"  {each['test']}: {each['why'][:200]}" for each in tests["failed"][:20])
    presets = found.get("presets")
    if presets:
        yield f"layers of presets: {presets['equal']} of {presets['layers']} as predicted, allocated to the byte"
        yield from (f"  {row}" for row in presets["rows"] if not row["equal"])
    for row in found.get("variants", ()):
        yield from variant(row)
    for row in found.get("overheads", ()):
        driver, reserved = row["driver_bytes"] / MIB, row["reserved_bytes"] / MIB
        taken = f"{driver:,.1f} MiB of the device, {reserved:,.1f} MiB of it reserved for tensors"
        yield f"{row['what']}: {taken}, {row['allocated_bytes']:,} bytes allocated"
    for row in found.get("against", ()):
        verdict = "equal" if row["equal"] else row["error"][:200]
        yield f"against {row.get('against', row['model_type'])}: {verdict}"


def variant(row: dict[str, Any]) -> Iterator[str]:
    """One model and kind of attention."""
    measured = row["bytes"]
    memory = measured["memory"] or {}
    allocated = f", {memory['kind']} {memory['measured_bytes']:,}" if memory else ""
    verdict = "equal" if measured["equal"] else "NOT EQUAL"
    yield f"{row['preset']} {row['attention'] or 'as built'}, {row['tokens']:,} tokens x {row['sequences']}"
    if memory.get("peak_bytes"):
        reserved, peak = memory["reserved_bytes"], memory["peak_bytes"]
        allocated += f" (reserved {reserved:,} and at most {peak:,} with weights and work)"
    yield f"  predicted {measured['predicted_bytes']:,}, storage {measured['storage_bytes']:,}{allocated}: {verdict}"
    if "filling" in row:
        filling = row["filling"]
        ratio = filling["seconds"] / filling["write_once_seconds"]
        size = f"{filling['bytes'] / GIB:.2f} GiB"
        yield f"  filled in {1e3 * filling['seconds']:.2f} ms, {ratio:.2f} x one write of {size}"
    if "decode_step_of_a_layer" in row:
        step = row["decode_step_of_a_layer"]
        floor = step["floor_seconds"]
        times = {
            name: step[f"{name}_seconds"] for name in ("eager", "graph", "arithmetic") if f"{name}_seconds" in step
        }
        each = ", ".join(f"{name} {1e6 * time:.0f} us ({time / floor:.2f} x)" for name, time in times.items() if time)
        yield f"  decode step of a layer: floor of bandwidth {1e6 * floor:.0f} us; {each}"


def main() -> None:
    step = Step.asked(__file__, __doc__)
    folder = step.out
    found = found_in(folder / "steps")
    device = re.sub(r"[^a-z0-9]+", "-", found.get("about", {}).get("device", step.device).lower()).strip("-")
    (folder / f"cuda-{device}.json").write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(lines(found)))


if __name__ == "__main__":
    main()
