"""Every preset meets every engine, view and format: nothing crashes, each document parses, and no number changes with it."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

import kvcalc
from kvcalc.answers.compare import compare_variants
from kvcalc.engines import ENGINES
from kvcalc.formats import FOR_ANYTHING, write
from kvcalc.io.presets import load_preset, preset_names
from kvcalc.question import Question
from kvcalc.report.views import Explanation, Layers, Lengths

TOKENS = 5000
VARIANTS = ["mha", "gqa:8", "mqa", "mla"]
REFUSALS = {name: {"encoder_tokens": 700} for name in ("ideal", "transformers")}
"""Settings without which models with an encoder are refused."""


def asked(name: str, engine: str) -> Question:
    settings = REFUSALS.get(engine)
    return Question.of(load_preset(name), tokens=TOKENS, sequences=2, engine=engine, engine_settings=settings)


def views_of(question: Question) -> list:
    """A size in all its views, and its variants."""
    report = kvcalc.size(
        question.model,
        tokens=question.tokens,
        sequences=question.sequences,
        engine=question.engine.name,
        engine_settings=REFUSALS.get(question.engine.name),
    )
    variants = compare_variants(question, VARIANTS, [TOKENS], optional=True)
    return [report, Layers(report), Explanation(report, ()), Lengths((report, report)), variants]


def written(document, form: str) -> str:
    stream = io.StringIO()
    write(document, form, stream)
    return stream.getvalue()


def numbers(text: str) -> set[int]:
    """Whole numbers of at least a million, by which a total is found again."""
    return {int(found.replace(",", "")) for found in re.findall(r"\d[\d,]{6,}", text)}


def check_formats(document, total_bytes: int) -> None:
    """Each format can be written and read, and has the total where its view shows one."""
    texts = {form: written(document, form) for form in FOR_ANYTHING}
    assert json.loads(texts["json"])
    rows = list(csv.reader(io.StringIO(texts["csv"])))
    assert len(rows) > 1
    for text in texts.values():
        assert "\x1b" not in text
        assert "nan" not in text.lower().split()
    assert total_bytes in numbers(texts["json"]) or total_bytes < 10**6


@pytest.mark.parametrize("name", preset_names())
def test_every_view_of_every_preset_in_every_format(name):
    question = asked(name, "ideal")
    views = views_of(question)
    for view in views:
        check_formats(view, views[0].total_bytes)
    table = written(views[0], "table")
    assert views[0].total_bytes in numbers(table) or views[0].total_bytes < 10**6


@pytest.mark.parametrize("engine", [name for name in ENGINES.names() if name != "ideal"])
def test_every_preset_in_every_engine_is_sized_in_all_views_or_refused(engine):
    """What an engine refuses it says in one line; anything else would be a crash."""
    sized = 0
    for name in preset_names():
        try:
            views = views_of(asked(name, engine))
        except kvcalc.KvcalcError as error:
            assert str(error).count("\n") == 0
            assert error.help
            continue
        sized += 1
        for view in views:
            for form in ("json", "markdown"):
                assert written(view, form)
    assert sized > len(preset_names()) // 3
