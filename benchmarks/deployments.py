"""Checking a folder of 1,000 files of mixed forms against checking one file, as whole command lines.

Budget: 10 s of processor time. The files are those of `tests/data/deployments`, over and over.

    python benchmarks/deployments.py
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path

from _processes import KVCALC, asked_runs, cpu_seconds

FILES = 1_000
BUDGET_SECONDS = 10
ANSWERED = (0, 1, 2)
"""Exit codes: some of the files lack something, and are refused."""
PLAN = Path(__file__).parents[1] / "examples" / "plans" / "prod.yaml"
CASES = Path(__file__).parents[1] / "tests" / "data" / "deployments"


def fill(folder: Path) -> int:
    """Copies files of every form into separate folders; returns how many."""
    cases = [path for path in sorted(CASES.iterdir()) if path.is_dir()]
    copied = number = 0
    while copied < FILES:
        case = cases[number % len(cases)]
        for file in sorted(path for path in case.rglob("*") if path.is_file() and path.name != "expected.json"):
            target = folder / f"{number:04}" / file.relative_to(case)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            copied += 1
        number += 1
    return copied


def main() -> None:
    runs = asked_runs(__doc__, 3)
    with tempfile.TemporaryDirectory() as folder:
        count = fill(Path(folder))
        one = {"deployments": CASES / "k8s-deployment-args--equals" / "chat.yaml", "check": PLAN}
        print(f"CPU time of `kvcalc COMMAND` of {count:,} files of mixed forms, against that of one")
        for command in ("deployments", "check"):
            lines = [[*KVCALC, command, str(path), "--format", "json"] for path in (one[command], folder)]
            times = [[cpu_seconds(line, ANSWERED) for line in lines] for _ in range(runs)]
            ratio = statistics.median(of_many / of_one for of_one, of_many in times)
            seconds = statistics.median(of_many for _, of_many in times)
            print(f"  {command:12} {ratio:.1f}  ({seconds:.1f} s; budget {BUDGET_SECONDS} s)")


if __name__ == "__main__":
    main()
