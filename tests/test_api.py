"""The public API: names and signatures are a contract, and no misuse ends in anything but a KvcalcError."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import kvcalc

R1 = kvcalc.load("r1")


def test_the_names_of_the_contract_are_there():
    assert set(kvcalc.__all__) >= {"load", "size", "sweep", "apply_method", "Model", "Report", "KvcalcError"}
    assert set(kvcalc.__all__) <= set(dir(kvcalc))
    assert all(getattr(kvcalc, name) for name in kvcalc.__all__)


def test_size_takes_what_the_contract_says():
    defaults = {name: p.default for name, p in inspect.signature(kvcalc.size).parameters.items()}
    assert defaults == {
        "model": inspect.Parameter.empty,
        "tokens": inspect.Parameter.empty,
        "sequences": 1,
        "kv_dtype": "bf16",
        "engine": "ideal",
        "engine_settings": None,
        "parallel": None,
    }


def test_a_report_names_groups_and_tensors():
    report = kvcalc.size(R1, tokens=100_000, sequences=2, kv_dtype="bfloat16", engine="ideal", engine_settings={})
    (group,) = report.groups
    c_kv, k_rope = group.tensors
    assert (c_kv.name, c_kv.dims, c_kv.dtype, c_kv.slots) == ("c_kv", (("kv_lora_rank", 512),), "bf16", 100_000)
    assert (c_kv.bytes, k_rope.bytes) == (2 * 61 * 100_000 * 1024, 2 * 61 * 100_000 * 128)
    assert (report.bytes_per_token, report.fixed_bytes_per_sequence) == (70_272, 0)
    assert all(type(n) is int for n in (report.total_bytes, report.bytes_per_sequence, report.bytes_per_token))


def test_integers_of_numpy_are_integers():
    report = kvcalc.size(R1, tokens=np.int64(100_000), sequences=np.uint8(2))
    assert type(report.total_bytes) is int
    assert report.total_bytes == 2 * 7_027_200_000


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: kvcalc.size("r1", tokens=1),
        lambda: kvcalc.size(R1, tokens=1.0),
        lambda: kvcalc.size(R1, tokens=True),
        lambda: kvcalc.size(R1, tokens=None),
        lambda: kvcalc.size(R1, tokens=1, sequences=0),
        lambda: kvcalc.size(R1, tokens=1, kv_dtype=None),
        lambda: kvcalc.size(R1, tokens=1, kv_dtype=16),
        lambda: kvcalc.size(R1, tokens=1, engine="vlm"),
        lambda: kvcalc.size(R1, tokens=1, engine=None),
        lambda: kvcalc.size(R1, tokens=1, engine="_private"),
        lambda: kvcalc.size(R1, tokens=1, engine="ideal.x"),
        lambda: kvcalc.size(R1, tokens=1, engine_settings=["window"]),
        lambda: kvcalc.size(R1, tokens=1, engine_settings={"window": []}),
        lambda: kvcalc.size(R1, tokens=1, engine_settings={1: 2}),
        lambda: kvcalc.load(None),
        lambda: kvcalc.load(b"r1"),
        lambda: kvcalc.load({}),
        lambda: kvcalc.load({1: 2}),
        lambda: kvcalc.load({"num_layers": 1, "layer_pattern": ["a"], "layers": {5: {}, "a": {}}}),
        lambda: kvcalc.load({"model_type": 5}),
        lambda: kvcalc.load({"model_type": "llama", "text_config": 5}),
        lambda: kvcalc.load({"model_type": []}),
        lambda: kvcalc.load("\0.yaml"),
        lambda: kvcalc.load("/"),
        lambda: kvcalc.apply_method(R1, ""),
        lambda: kvcalc.apply_method(R1, "gqa:²"),
        lambda: kvcalc.apply_method(R1, "mla:١+64"),
    ],
)
def test_misuse_is_a_kvcalc_error(misuse):
    with pytest.raises(kvcalc.KvcalcError):
        misuse()
