"""`--engine transformers@VERSION` against what 19 releases of transformers held, from 4.57.6 to 5.24.0.

`transformers_versions` are questions with the bytes that came out; `transformers_rules` the same on both sides of each
rule of the table, written by `tools/measure_transformers.py`. All small random models, torch 2.13 on the CPU.
"""

from __future__ import annotations

import functools
import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

import kvcalc
from kvcalc.engines.transformers.versions import TransformersRelease

DATA = Path(__file__).parents[1] / "data"
SIZES = {"transformers_versions": 2122, "transformers_rules": 2708}


@functools.cache
def loaded(config: str) -> kvcalc.Model:
    return kvcalc.load(json.loads(config))


def rows(name: str) -> list[dict]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def total(row: dict, **changed) -> int:
    question = {**row["question"], **changed}
    return kvcalc.size(loaded(json.dumps(row["config"])), **question).total_bytes


@pytest.mark.parametrize("name", SIZES)
def test_every_release_is_predicted_to_the_byte(name):
    measured = rows(name)
    wrong = Counter(
        (row["name"], row["question"]["engine"]) for row in measured if total(row) != row["want"]["total_bytes"]
    )
    assert len(measured) == SIZES[name]
    assert not wrong


@pytest.mark.parametrize("rule", TransformersRelease.rules())
def test_without_a_rule_some_row_would_be_wrong(rule, monkeypatch):
    """Each rule is needed: with the value that it has today in every version, measured rows differ."""
    row = TransformersRelease.rules()[rule]
    monkeypatch.setattr(row, "old", row.at(TransformersRelease.newest()))
    monkeypatch.setattr(row, "since", {})
    measured = (row for name in SIZES for row in rows(name))
    assert any(total(row) != row["want"]["total_bytes"] for row in measured)


def held(config: dict, version: str, tokens: int, **settings) -> int:
    engine = f"transformers@{version}"
    return kvcalc.size(kvcalc.load(config), tokens=tokens, engine=engine, engine_settings=settings).total_bytes


GEMMA = {
    "model_type": "gemma4_text", "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "global_head_dim": 16, "hidden_size": 64, "sliding_window": 8,
    "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"] * 2,
}  # fmt: skip
ROW = 2 * 2 * 16 * 2  # bytes of a token in a layer


def test_gemma_forgets_its_windows_only_where_no_layer_shares():
    """Before 5.14 the last 0 layers were cut off the list of layers, and with them all of it."""
    alone, sharing = {**GEMMA, "num_kv_shared_layers": 0}, {**GEMMA, "num_kv_shared_layers": 2}
    assert held(alone, "5.13.1", 100) == 8 * 100 * ROW
    assert held(alone, "5.14", 100) == held(alone, "5.13.1", 100, cache="static") - 6 * ROW == (6 * 7 + 2 * 100) * ROW
    assert held(sharing, "5.13.1", 100) == held(sharing, "5.14", 100) == (5 * 7 + 100) * ROW


def test_the_window_that_other_layers_read_was_kept_as_it_was_seen():
    """Gemma 4 until 5.5.1: all of a prompt, then the window; once, whichever layers read it."""
    sharing = {**GEMMA, "num_kv_shared_layers": 2}
    kept = (5 * 7 + 100) * ROW
    assert held(sharing, "5.5.2", 100) == held(sharing, "5.5.0", 100, cache="static") - 5 * ROW == kept
    assert held(sharing, "5.5.0", 100) == held(sharing, "5.5.1", 100, prompt_tokens=99) == kept + 8 * ROW
    assert (
        held(sharing, "5.5.0", 100, decode_steps=0)
        == held(sharing, "5.5.0", 100, prompt_tokens=100)
        == kept + 100 * ROW
    )
    assert held(sharing, "5.5.0", 7) == held(sharing, "5.6", 7)  # nothing fell out of the window yet


def test_a_field_that_a_version_did_not_read_changes_nothing_there():
    cohere = {
        "model_type": "cohere2", "num_hidden_layers": 12, "num_attention_heads": 4, "num_key_value_heads": 2,
        "hidden_size": 64, "sliding_window": 8,
    }  # fmt: skip
    patterned = {**cohere, "sliding_window_pattern": 2}
    for version in ("5.0", "5.3.0"):
        assert held(patterned, version, 100) == held(cohere, version, 100) == held(cohere, "5.4", 100)
    assert held(patterned, "4.57", 100) == held(patterned, "5.4", 100) == held(patterned, "5.24", 100)
    assert held(patterned, "5.4", 100) > held(cohere, "5.4", 100)
    assert held({**patterned, "layer_types": ["full_attention"] * 12}, "5.0", 100) == 12 * 100 * ROW


def test_a_method_on_what_an_older_version_reads_otherwise_is_said():
    cohere = {
        "model_type": "cohere2", "num_hidden_layers": 12, "num_attention_heads": 4, "num_key_value_heads": 2,
        "hidden_size": 64, "sliding_window": 8, "sliding_window_pattern": 2,
    }  # fmt: skip
    model = kvcalc.apply_method(kvcalc.load(cohere), "mqa")
    note = "transformers 5.3 reads this config differently; methods were applied to today's reading"
    assert note in kvcalc.size(model, tokens=100, engine="transformers@5.3").notes
    assert not [n for n in kvcalc.size(model, tokens=100, engine="transformers@5.4").notes if "otherwise" in n]


def test_older_readings_are_named_as_the_rules_that_tell_of_them():
    cohere = {"model_type": "cohere2", "sliding_window_pattern": 2}
    mimo = {"model_type": "mimo_v2_flash", "sliding_window_size": 8}
    rules = {rule for config in (cohere, mimo) for rule in kvcalc.load(config).older_readings}
    assert rules == {rule for rule in TransformersRelease.rules() if rule.startswith("reads_")}


def test_ranks_of_an_older_version_share_what_it_read():
    model = kvcalc.load({**GEMMA, "model_type": "gemma3n_text", "num_kv_shared_layers": 2})
    whole = kvcalc.size(model, tokens=100, engine="transformers@5.5.4")
    shared = kvcalc.size(model, tokens=100, engine="transformers@5.5.4", parallel=kvcalc.Parallel(tp=2))
    assert sum(rank.bytes for rank in shared.per_rank) == whole.total_bytes
    assert [group.name for group in whole.groups] == [
        "sliding",
        "sliding, read by others",
        "full",
        "shared-sliding",
        "shared",
    ]


@pytest.mark.parametrize(("steps", "tokens"), [(0, 100), (1, 101), (None, 101)])
def test_xlnet_and_xlm_hold_one_token_more_in_generate(steps, tokens):
    xlnet = {"model_type": "xlnet", "d_model": 64, "n_layer": 3, "n_head": 4, "mem_len": None}
    assert held(xlnet, "5.23", 100, decode_steps=steps) == 3 * 64 * tokens * 2
    assert held({**xlnet, "mem_len": 50}, "5.23", 100, decode_steps=steps) == 3 * 64 * 50 * 2
    xlm = {"model_type": "xlm", "emb_dim": 64, "n_layers": 3, "n_heads": 4}
    assert held(xlm, "5.23", 100, decode_steps=steps) == 0
    assert held(xlm, "5.24", 100, decode_steps=steps) == (2 * 3 * 64 * tokens * 2 if tokens > 100 else 0)


def test_reformer_keeps_the_buckets_of_what_it_hashed():
    config = {
        "model_type": "reformer", "hidden_size": 64, "num_attention_heads": 4, "num_hashes": 2,
        "attn_layers": ["local", "lsh", "local", "lsh"], "local_attn_chunk_length": 8, "lsh_attn_chunk_length": 16,
    }  # fmt: skip
    states = 4 * 64 * 2
    for tokens, prompt, bucket_bytes in ((16, 16, 0), (17, 17, 8), (17, 16, 4), (14, 10, 0), (100, 17, 8), (100, 9, 4)):
        expected = tokens * (states + 2 * 4 * 2 * bucket_bytes)
        assert held(config, "5.23", tokens, prompt_tokens=prompt) == expected, (tokens, prompt)
    uneven = {**config, "local_attn_chunk_length": 6}  # a prompt of 7 is filled up to 48, three chunks
    assert held(uneven, "5.23", 7) - held(uneven, "5.23", 7, prompt_tokens=6) == 7 * 2 * 4 * 2 * 8
