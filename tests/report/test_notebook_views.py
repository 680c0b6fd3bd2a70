"""Answers in notebooks: HTML that stands beside others, and data frames whose bytes stay whole numbers."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from strict_readers import OF_HTML, OF_SVG, assert_inert, read_elements

import kvcalc
from kvcalc.report import notebooks
from kvcalc.report.sheet import Column, Sheet, table_of

REQUESTS = [{"id": 0, "arrival_step": 0, "prompt": [["s", 20]], "output_segment": None, "output_tokens": 30}]
PLANS = Path(__file__).parents[1] / "plans"
ANSWERS = {
    "size": lambda: kvcalc.size("gpt-oss-20b", tokens=8192),
    "ranks": lambda: kvcalc.size("r1", tokens=1000, tp=8),
    "compare": lambda: kvcalc.compare(["r1", "llama3-70b"], tokens="1K,32K"),
    "methods": lambda: kvcalc.compare("llama3-8b", methods="snapkv,kivi", tokens="32K"),
    "fit": lambda: kvcalc.fit("llama3-8b", engine="vllm", available_bytes="40GiB"),
    "pool": lambda: kvcalc.fit("llama3-8b", engine="sglang", available_bytes="40GiB"),
    "fit_gpus": lambda: kvcalc.fit_gpus("llama3-8b", gpu="h100", tokens="8K"),
    "check": lambda: kvcalc.check({"name": "a", "model": "r1", "tokens": "1K", "budget": "1GB"}),
    "diff": lambda: kvcalc.diff(PLANS / "was", PLANS / "now"),
    "presets": lambda: kvcalc.presets("qwen"),
    "transfer": lambda: kvcalc.transfer("r1", tokens="8K"),
    "decode": lambda: kvcalc.decode("qwen3-30b-a3b", tokens="8K", gpu="h100"),
    "plot": lambda: kvcalc.plot(["gpt-oss-20b", "r1"], tokens="1K,32K", gpu="l40s"),
    "replay": lambda: kvcalc.replay(kvcalc.load("llama3-8b"), REQUESTS, scheduler={"num_gpu_blocks": 9}),
}


@pytest.fixture(params=ANSWERS)
def answer(request):
    return ANSWERS[request.param]()


def test_an_answer_shows_itself_as_html(answer):
    html = answer._repr_html_()
    assert_inert(html)
    root = ElementTree.fromstring(html)
    read_elements(root, (OF_HTML | OF_SVG) - {"script", "html", "body", "h1"})
    assert root.get("class") == "kvcalc"
    for line in root.find("style").text.splitlines():
        assert line.startswith((".kvcalc", "@media", " ", "--")), line  # it styles nothing else on the page


def test_two_answers_on_one_page_have_no_id_in_common():
    ids = [re.findall(r'\bid="([^"]+)"', ANSWERS[name]()._repr_html_()) for name in ("size", "compare", "fit_gpus")]
    flat = [each for of_one in ids for each in of_one]
    assert flat
    assert len(set(flat)) == len(flat)


def test_a_model_shows_its_layers():
    html = kvcalc.load("gpt-oss-20b")._repr_html_()
    assert "12 sliding" in html
    assert "last 128" in html
    assert "131,072 tokens" in html


def test_hostile_names_are_words():
    facts = {"model_type": "llama", "num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 64}
    model = kvcalc.load({**facts, "_name_or_path": "<script>alert(1)</script>\x1b"})
    for html in (model._repr_html_(), kvcalc.size(model, tokens=1)._repr_html_()):
        assert_inert(html)
        ElementTree.fromstring(html)
        assert "<script" not in html


def test_a_frame_has_the_table_that_csv_has(answer):
    pandas = pytest.importorskip("pandas")
    frame = answer.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    table = table_of(answer)
    assert tuple(frame.columns) == table.names
    assert len(frame) == len(table.rows)
    for i, name in enumerate(table.names):
        for cell, row in zip(frame[name], table.rows, strict=True):
            kept = row[i] if row[i] is None or isinstance(row[i], int | float) else str(row[i])
            assert (cell is pandas.NA and kept is None) or cell == kept or str(kept) == cell
        if name.endswith("bytes") and any(isinstance(row[i], int) for row in table.rows):
            assert str(frame[name].dtype) == "Int64"


class _Answer:
    def sheets(self):
        rows = ((2**53 + 1, None, "a", 1.5, True), (None, 3, None, 2, None))
        return (Sheet("t", tuple(Column(name, "count") for name in "abcde"), rows),)


def test_whole_numbers_stay_whole_where_one_is_missing():
    frame = notebooks.frame_of(_Answer())
    assert frame["a"].tolist()[0] == 2**53 + 1  # a float would be off by one
    assert [str(dtype) for dtype in frame.dtypes] == ["Int64", "Int64", "string", "Float64", "boolean"]


ROWS = {
    "polars": lambda frame: frame.rows(),
    "pyarrow": lambda frame: [tuple(row.values()) for row in frame.to_pylist()],
}
"""Libraries beside pandas, and how each says what is in a frame."""


@pytest.fixture(params=ROWS)
def library(request, monkeypatch):
    """One that is installed, as if it were the one that is imported."""
    pytest.importorskip(request.param)
    for other in {"pandas", *ROWS} - {request.param}:
        monkeypatch.delitem(sys.modules, other, raising=False)
    return request.param


def test_other_libraries_have_the_same(library):
    frame = notebooks.frame_of(_Answer())
    assert type(frame).__module__.partition(".")[0] == library
    assert ROWS[library](frame) == [(2**53 + 1, None, "a", 1.5, True), (None, 3, None, 2.0, None)]


def test_a_frame_of_another_library_has_the_table_that_csv_has(library, answer):
    frame, table = answer.to_frame(), table_of(answer)
    names = frame.columns if library == "polars" else frame.column_names
    assert tuple(names) == table.names
    for kept, row in zip(ROWS[library](frame), table.rows, strict=True):
        for cell, wanted in zip(kept, row, strict=True):
            assert cell == (wanted if wanted is None or isinstance(wanted, int | float) else str(wanted)) or (
                cell == str(wanted)  # a column of several kinds is one of texts
            )


def test_the_library_that_is_imported_is_taken_first(monkeypatch):
    seen = SimpleNamespace(**{name: name for name in ("Int64", "Float64", "Boolean", "String")})
    seen.Series = lambda name, cells, kind: (name, list(cells), kind)
    seen.DataFrame = lambda columns: columns
    monkeypatch.setitem(sys.modules, "polars", seen)
    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in ("pandas", "polars") or None)
    assert notebooks.frame_of(_Answer())["b"] == ("b", [None, 3], "Int64")


def test_without_a_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(kvcalc.KvcalcError, match="pip install pandas") as error:
        kvcalc.size("r1", tokens=1).to_frame()
    assert "--format csv" in error.value.help


def test_every_answer_of_the_api_can_do_both():
    """Report classes that are public, each."""
    reports = [vars(kvcalc).get(name) or getattr(kvcalc, name) for name in kvcalc.__all__]
    classes = [each for each in reports if isinstance(each, type) and hasattr(each, "sheets")]
    assert len(classes) >= 8
    assert [each for each in classes if not (hasattr(each, "_repr_html_") and hasattr(each, "to_frame"))] == []
