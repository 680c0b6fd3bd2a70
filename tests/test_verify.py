"""`kvcalc verify`: caches of real torch modules, measured, against the prediction; and that a wrong one is noticed."""

from __future__ import annotations

import json

import pytest
import torch

import kvcalc
from kvcalc.io.presets import load_preset, preset_names
from kvcalc.tensors import LastTokens
from kvcalc.verify.measure import verify
from kvcalc.verify.modules import MODULES, gqa
from kvcalc.verify.slices import first_layers, largest_slice
from kvcalc.workload import Workload

GQA = {"attention": "gqa", "num_query_heads": 4, "num_kv_heads": 2, "head_dim": 8, "v_head_dim": 12}
MLA = {"num_query_heads": 4, "qk_rope_head_dim": 6, "qk_nope_head_dim": 10, "v_head_dim": 12}
KINDS = {
    "gqa": GQA,
    "window": {**GQA, "sliding_window": 7},
    "chunk": {**GQA, "attention_chunk_size": 16},
    "mla": {"attention": "mla", "kv_lora_rank": 16, **MLA},
    "mla without positions": {"attention": "mla", "kv_lora_rank": 16, **MLA, "qk_rope_head_dim": 0},
    "mla-naive": {"attention": "mla-naive", **MLA},
}


def tiny(kind: str, layers: int = 3) -> kvcalc.Model:
    return kvcalc.load({"name": kind, "num_layers": layers, **KINDS[kind]})


def has_modules(model: kvcalc.Model) -> bool:
    kinds = {name.replace("-", "_") for name in MODULES.names()}
    parts = [group.parts for group in model.groups]
    return all(len(part) == 1 and type(part[0]).__module__.rsplit(".", 1)[1] in kinds for part in parts)


WITH_MODULES = [name for name in preset_names() if has_modules(load_preset(name))]


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32", "fp8"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("tokens", "sequences"), [(1, 1), (5, 2), (40, 3), (1100, 1)])
def test_every_module_takes_what_was_predicted(kind, tokens, sequences, dtype):
    result = verify(tiny(kind), tokens=tokens, sequences=sequences, kv_dtype=dtype, device="cpu", decode_steps=3)
    assert result.equal
    assert (
        result.storage_bytes == kvcalc.size(tiny(kind), tokens=tokens, sequences=sequences, kv_dtype=dtype).total_bytes
    )


@pytest.mark.parametrize("name", WITH_MODULES)
def test_every_preset_at_full_size_without_memory(name):
    result = verify(load_preset(name), tokens=100_000, sequences=2, device="meta")
    assert result.equal, [tensor for tensor in result.tensors if not tensor.equal]
    assert result.predicted_bytes > 0


def test_most_presets_have_modules():
    assert len(WITH_MODULES) > 90


def test_a_wrong_prediction_is_noticed(monkeypatch, cli):
    """A rule that forgets a token, and a module that caches a head too many."""
    monkeypatch.setattr(LastTokens, "slots", lambda self, tokens: min(tokens, self.limit - 1))
    result = verify(tiny("window"), tokens=40, device="cpu")
    assert not result.equal
    assert [tensor.verdict for tensor in result.tensors] == ["+96 bytes", "+144 bytes"]
    outcome = cli("verify --preset gpt-oss-20b --tokens 300 --device meta")
    assert outcome.code == 1
    assert "not equal: 12 sliding k, 12 sliding v" in outcome.stdout


def test_a_view_that_keeps_more_alive_is_shown(monkeypatch):
    new_cache = gqa.GroupedQueryModule.new_cache

    def of_twice_the_size(self, sequences, capacity, dtype):
        cache = new_cache(self, sequences, capacity, dtype)
        for slots in cache.values():
            slots.data = torch.cat([slots.data, slots.data])[: slots.data.shape[0]]
        return cache

    monkeypatch.setattr(gqa.GroupedQueryModule, "new_cache", of_twice_the_size)
    result = verify(tiny("gqa", layers=1), tokens=10, device="cpu")
    assert [tensor.verdict for tensor in result.tensors] == ["a view of 640 bytes", "a view of 960 bytes"]


def test_what_does_not_fit_is_cut_to_fewer_layers_then_to_fewer_tokens():
    model, workload = tiny("gqa", layers=10), Workload.of(100, 2)
    layer_bytes = kvcalc.size(tiny("gqa", layers=1), tokens=100, sequences=2).total_bytes
    for memory, layers, tokens in [
        (10 * layer_bytes, 10, 100),
        (10 * layer_bytes - 1, 9, 100),
        (layer_bytes, 1, 100),
        (layer_bytes - 1, 1, 99),
        (layer_bytes // 100, 1, 1),
    ]:
        part, shorter = largest_slice(model, workload, memory)
        assert (part.num_layers, shorter.tokens) == (layers, tokens)
    with pytest.raises(kvcalc.InvalidValueError, match="not one token of one layer fits"):
        largest_slice(model, workload, layer_bytes // 100 - 1)


def test_a_slice_is_said_and_equal_on_its_own():
    model = tiny("gqa", layers=10)
    whole = kvcalc.size(model, tokens=100).total_bytes
    result = verify(model, tokens=100, device="cpu", memory_bytes=whole // 2)
    assert result.equal
    assert result.predicted_bytes == whole // 2
    assert f"a slice was run: 5 of 10 layers, 100 of 100 tokens; the bytes above are the slice's. By the same rule the whole takes {whole:,} bytes" in result.notes[0]  # fmt: skip


def test_the_first_layers_keep_their_kinds():
    part = first_layers(load_preset("gpt-oss-20b"), 3)
    assert part.layer_names == ("sliding", "full", "sliding")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--preset mamba-2.8b --tokens 10", "there is no torch module for mamba layers yet, so they cannot be verified"),
        ("--preset deepseek-v3.2 --tokens 10", "there is no torch module for layers of several parts yet"),
        ("--preset r1 --tokens 10 --dtype int4", "torch has no tensors of int4"),
        ("--preset r1 --tokens 10 --device tpu", "device must be one of cpu, cuda, meta, not 'tpu'"),
        ("--preset r1 --tokens 1k,2k --device meta", "--tokens: verify takes one token count"),
        ("--preset r1 --tokens 10 --decode-steps 0 --device meta", "decode_steps must be at least 1, not 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_verified_is_explained(cli, line, message):
    outcome = cli(f"verify {line}")
    assert outcome.code == 2
    assert outcome.stdout == ""
    assert message in outcome.stderr
    assert "help: " in outcome.stderr


def test_without_torch_the_command_to_install_it_is_named(cli, monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "kvcalc.verify.measure", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    outcome = cli("verify --preset r1 --tokens 10")
    assert outcome.code == 2
    assert outcome.stderr == "verify needs torch, which is not installed\nhelp: pip install 'kvcalc[verify]'\n"


def test_the_result_as_json(cli):
    outcome = cli("verify --preset r1 --tokens 100000 --device meta --format json")
    data = json.loads(outcome.stdout)
    assert outcome.code == 0
    assert data["equal"] is True
    assert data["storage_bytes"] == 7_027_200_000
    assert [tensor["shape"] for tensor in data["tensors"]] == [[1, 100_000, 512], [1, 100_000, 64]]
