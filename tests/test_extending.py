"""docs/extending.md is true: its files, put into a copy of the package, are found and answer as the page shows.

`KVCALC_UPDATE_SNAPSHOTS=1` writes what they answer into the page.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "extending.md"
BLOCKS = re.findall(r"```([\w-]+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
FILES = {
    match[1]: content
    for kind, content in BLOCKS
    if kind in ("python", "yaml")
    for match in [re.match(r"# (\S+)\n", content)]
}
SESSIONS = [content for kind, content in BLOCKS if kind == "shell-session"]


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Path:
    """A copy of the package and its presets, with every file and change of the page."""
    copy = tmp_path_factory.mktemp("extended")
    for folder in ("kvcalc", "presets"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in FILES.items():
        assert not (copy / name).exists()
        (copy / name).write_text(content, "utf-8")
    (change,) = (content for kind, content in BLOCKS if kind == "diff")
    old, new = (line[1:] for line in change.splitlines())
    formats = copy / "kvcalc/formats/__init__.py"
    assert formats.read_text("utf-8").count(f"{old}\n") == 1
    formats.write_text(formats.read_text("utf-8").replace(old, new), "utf-8")
    return copy


def printed(extended: Path, line: str) -> str:
    words = shlex.split(line)
    assert words.pop(0) == "kvcalc"
    environment = {**os.environ, "PYTHONPATH": str(extended), "COLUMNS": "80", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", "-m", "kvcalc", *words]
    done = subprocess.run(command, cwd=extended, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.splitlines()[0])
def test_what_is_added_answers_as_the_page_shows(extended, session):
    lines = re.findall(r"^\$ (.*)$", session, re.MULTILINE)
    told = "".join(f"$ {line}\n{printed(extended, line)}" for line in lines)
    if os.environ.get("KVCALC_UPDATE_SNAPSHOTS"):
        PAGE.write_text(PAGE.read_text("utf-8").replace(session, told), "utf-8")
    assert told == session


def test_the_numbers_are_those_worked_out_by_hand(extended):
    """16 layers x 8 heads x 64 x 2 bytes of each token, once for K and once for V, in whole pages of 16, 32 and 1,000."""
    each = 16 * 8 * 64 * 2
    for engine, slots in (("pager@1.0", 1008), ("pager", 1024), ("pager --engine-set page_size=1000", 1000)):
        rows = printed(extended, f"kvcalc size small-1b -t 1000 -e {engine} --format csv").splitlines()[1:]
        assert [int(row.rpartition(",")[2]) for row in rows] == [each * slots] * 2
    assert f" {512 * each:,} bytes" in printed(extended, "kvcalc size keys-1b -t 1K")


def test_each_kind_of_thing_is_on_the_page():
    rooms = {str(Path(name).parent) for name in FILES}
    assert rooms == {"presets", "kvcalc/attention", "kvcalc/methods", "kvcalc/engines", "kvcalc/formats"}
