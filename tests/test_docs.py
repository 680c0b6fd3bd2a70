"""The pages of docs are true: their commands print what they show. `KVCALC_UPDATE_SNAPSHOTS=1` writes it into them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    (page, line, shown)
    for page in sorted(ROOT.joinpath("docs").glob("*.md"))
    for line, shown in re.findall(r"```console\n\$ kvcalc ([^\n]*)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
]


@pytest.mark.parametrize(("page", "line", "shown"), PAGES, ids=[line for _, line, _ in PAGES])
def test_a_command_prints_what_the_page_shows(cli, monkeypatch, page, line, shown):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(
        "PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )  # a page may run kvcalc
    printed = cli(line).stdout
    if os.environ.get("KVCALC_UPDATE_SNAPSHOTS"):
        old, new = (f"$ kvcalc {line}\n{output}```" for output in (shown, printed))
        page.write_text(page.read_text("utf-8").replace(old, new), "utf-8")
    assert printed == shown


def test_pages_have_commands():
    assert len(PAGES) >= 3
