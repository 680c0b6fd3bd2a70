"""Spoiled models: whatever a file says, the end is a number or a KvcalcError, never a crash."""

from __future__ import annotations

import copy

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_hf_config import SAME

import kvcalc
from kvcalc.io.presets import preset_names, presets_folder

PRESETS = [yaml.safe_load((presets_folder() / f"{name}.yaml").read_text()) for name in preset_names()]
CONFIGS = [config for _, config in SAME]
FIELDS = sorted({field for model in PRESETS + CONFIGS for field in model} | {"text_config", "sliding_window", "layers"})
NUMBERS = (0, -1, 1, 2, 61, 1.5, float("nan"), float("inf"), 10**400, 10**13, 2**63, 10**5)
OTHERS = (None, True, False, "61", "", "llama", "x" * 100, b"x", ("a",), {}, {"a": 1}, {"full": {}})
LISTS = ([], [1], [None], ["full_attention"])
VALUES = st.sampled_from((*NUMBERS, *OTHERS, *LISTS))


@settings(max_examples=400)
@given(
    st.sampled_from(PRESETS + CONFIGS),
    st.lists(st.tuples(st.sampled_from(FIELDS), VALUES | st.just("remove")), max_size=3),
)
def test_a_spoiled_model_ends_in_a_number_or_an_error(model, changes):
    spoiled = copy.deepcopy(model)
    for field, value in changes:
        if value == "remove":
            spoiled.pop(field, None)
        else:
            spoiled[field] = value
    try:
        total = kvcalc.size(kvcalc.load(spoiled), tokens=1000).total_bytes
    except kvcalc.KvcalcError as error:
        assert str(error)
    else:
        assert total > 0


@given(st.text(alphabet="ab:,{}[] \n\t#-'\"&*!|>%@`01._~yno\0\x85\ufeff", max_size=80))
def test_any_text_ends_in_a_message(tmp_path_factory, text):
    file = tmp_path_factory.mktemp("fuzz") / "model.yaml"
    file.write_text(text, "utf-8")
    try:
        kvcalc.load(file)
    except kvcalc.KvcalcError as error:
        assert str(file) in str(error)
