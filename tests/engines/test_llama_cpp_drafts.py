"""Drafts of another model in llama.cpp: a second context of the library, whose bytes the library's own rows give.

Rows of tests/data/llama_cpp.jsonl.gz are contexts that the real library made; a draft's is one more of them.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

import kvcalc
from kvcalc.engines import Engine

DRAFTS = {"spec_type": "draft-simple"}


def size(model: str, draft: str | None, tokens: int, sequences: int = 1, **settings: Any) -> kvcalc.SizeReport:
    asked = settings if draft is None else DRAFTS | {"model_draft": draft} | settings
    return kvcalc.size(model, tokens=tokens, batch=sequences, engine="llama_cpp", dtype="f16", engine_settings=asked)


def test_a_draft_has_as_many_cells_in_f16():
    """36 layers of 8 heads of 128 and 28 of the draft, K and V: 2 * 2 bytes of each, 34 of 32 elements in q8_0."""
    cells = 32_768
    assert size("qwen3-8b", "qwen3-0.6b", cells).total_bytes == cells * (36 + 28) * 8 * 128 * 2 * 2
    quantised = size("qwen3-8b", "qwen3-0.6b", cells, type_k="q8_0", type_v="q8_0")
    assert quantised.total_bytes == cells * 8 * 128 * 2 * (36 * 34 // 2 + 28 * 2 * 16) // 16
    drafted = size("qwen3-8b", "qwen3-0.6b", cells, type_k_draft="q8_0", type_v_draft="q8_0")
    assert drafted.total_bytes == cells * 8 * 128 * 2 * (36 * 2 * 16 + 28 * 34 // 2) // 16


@pytest.mark.parametrize(
    ("model", "draft"),
    [("gemma-3-27b", "gemma-3-1b"), ("qwen3.6-27b", "qwen3.5-0.8b"), ("gpt-oss-120b", "gpt-oss-20b")],
)
@pytest.mark.parametrize("settings", [{}, {"kv_unified": True}, {"swa_full": True}, {"n_ubatch": 64}])
def test_it_is_a_context_as_any_other(model, draft, settings):
    """Windows, states and streams of the draft are those of a context of its own with the same parameters."""
    both, own, alone = (
        size(*pair, 16_384, 3, **settings).total_bytes for pair in ((model, draft), (model, None), (draft, None))
    )
    assert both == own + alone


ERRORS: dict[str, tuple[str, dict[str, Any], str]] = {
    "no type": ("llama_cpp", {}, "llama.cpp drafts with qwen3-0.6b only if spec_type is draft-simple"),
    "an older version": ("llama_cpp@0.3.20", DRAFTS, "does not model drafts of llama.cpp before 2026-05-31"),
}


@pytest.mark.parametrize(("engine", "settings", "words"), ERRORS.values(), ids=list(ERRORS))
def test_a_draft_that_does_not_go_is_named(engine, settings, words):
    of = Engine.of(engine, settings)
    with pytest.raises(kvcalc.NotApplicableError, match=words) as refusal:
        of.drafted_by(kvcalc.load("qwen3-8b"), kvcalc.load("qwen3-0.6b"))
    assert refusal.value.help


def test_a_type_that_is_none_is_refused():
    with pytest.raises(kvcalc.InvalidValueError, match="type_k_draft must be one of f32"):
        size("qwen3-8b", "qwen3-0.6b", 4096, type_k_draft="int3")


COMMAND = "llama-server -m qwen3-8b -c 8192 -np 1 -md qwen3-0.6b"


def test_a_command_line_names_the_draft(tmp_path, cli):
    plan = tmp_path / "plan.yaml"
    row = "deployments:\n  - name: chat\n    budget: 40GB\n    args: "
    plan.write_text(f"{row}{COMMAND} --spec-type draft-simple -ctkd q8_0 -ctvd q8_0\n")
    (found,) = json.loads(cli(["check", str(plan), "--format", "json"]).stdout)["findings"]
    assert found["needed_bytes"] == 8192 * 8 * 128 * 2 * (36 * 2 * 16 + 28 * 34 // 2) // 16
    assert "28 draft layers of qwen3-0.6b, planned as layers of this model" in found["notes"]
    plan.write_text(f"{row}{COMMAND}\n")
    assert "help: add --spec-type draft-simple" in cli(["check", str(plan)]).stderr
    plan.write_text(f"{row}{COMMAND} --spec-type draft-simple,draft-mtp\n")
    assert "speculative decoding may have its own cache" in cli(["check", str(plan)]).stderr
