"""The example notebook is run by a real kernel, and what it shows is what stands in it. `KVCALC_UPDATE_SNAPSHOTS=1` writes that."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"


def shown(outputs) -> list[dict]:
    """Outputs without what changes from run to run; of what has HTML, that alone."""
    found = []
    for each in outputs:
        assert each["output_type"] in ("execute_result", "display_data"), each
        data = dict(each["data"])
        if "text/html" in data:
            data = {"text/html": data["text/html"]}
        found.append({"output_type": "display_data", "metadata": {}, "data": data})
    return found


def without_drawings(outputs) -> list[dict]:
    """The same but for drawings, which another release of matplotlib may draw otherwise."""
    text = json.dumps(outputs)
    return json.loads(re.sub(r"<svg\b.*?</svg>", "<svg/>", text))


@pytest.fixture(scope="module")
def executed():
    """The notebook, run from its first cell to its last."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        cell["outputs"] = [] if cell.cell_type == "code" else cell.get("outputs")
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": ROOT}}).execute()
    return notebook


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_each_cell_shows_what_stands_in_the_notebook(executed):
    kept = json.loads(NOTEBOOK.read_text("utf-8"))
    pairs = list(zip(kept["cells"], executed.cells, strict=True))
    if os.environ.get("KVCALC_UPDATE_SNAPSHOTS"):
        for cell, run in pairs:
            if cell["cell_type"] == "code":
                cell["outputs"] = shown(run.outputs)
        NOTEBOOK.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for cell, run in pairs:
        if cell["cell_type"] == "code":
            assert without_drawings(shown(run.outputs)) == without_drawings(cell["outputs"]), cell["source"]
            assert cell["execution_count"] is None
    assert sum(len(cell.get("outputs", ())) for cell in kept["cells"]) >= 9
