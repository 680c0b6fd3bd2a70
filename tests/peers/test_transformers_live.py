"""`--engine transformers` against the transformers that is installed: `pytest -m peers`.

Tiny random models are built, run through a prefill, decode steps and `generate()`, and their caches compared with what
kvcalc says of the same config.json; so that the next release of transformers cannot surprise us.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from pathlib import Path

import pytest
import transformers

import kvcalc
from kvcalc.io.hf_config import family_files

ROOT = Path(__file__).parent.parent.parent
TABLE = ROOT / "kvcalc/io/model_types.json"
sys.path.insert(0, str(ROOT))  # tools/ is no package of the wheel
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]  # warnings of the libraries are theirs

TYPES = """
    llama mistral qwen2 qwen3 phi3 gpt2 gpt_bigcode bloom falcon dbrx gemma3_text gemma3n_text gemma4_text llama4_text
    gpt_oss cohere2 exaone4 modernbert-decoder deepseek_v3 deepseek_v32 deepseek_v4 glm_moe_dsa longcat_flash
    minimax_m3_vl_text mimo_v2_flash qwen3_next qwen3_5_text kimi_linear minimax olmo_hybrid lfm2 mamba mamba2 jamba
    falcon_h1 nemotron_h zamba2 rwkv xlstm recurrent_gemma zaya inkling_text doge cpmant gpt_neo t5 bart whisper mllama
    qwen2_vl dory inkling2_loop_text lara_mini sarvam_mla reformer xlnet xlm
""".split()  # noqa: SIM905
IN_FLOAT32 = {"reformer"}
"""Types run in float32: the hashes of this one are float32 whatever its weights are."""
STORAGE_UNKNOWN = {"recurrent_gemma", "xlnet"}
"""Types whose states are slices of what one step made, so that the memory behind them is a matter of the step."""
WITHOUT_PEER = {"remote", "deepseek_v41", "lightning", "loops", "windows"}
"""Families whose code is not in transformers."""
CASES = (
    (2, 16, 1),
    (2, 35, 3),
    (2, 20, 3, "default", "generate"),
    (2, 20, 3, "static", "generate"),
    (2, 20, 3, "quantized_fp8", "generate"),
)
SETTINGS = ("cache", "prompt_tokens", "decode_steps")


@functools.cache
def measured(model_type: str) -> list[dict]:
    """Rows of the type: its config as saved and as given, and what its caches held."""
    import measure

    dtypes = ("float32",) if model_type in IN_FLOAT32 else ("bfloat16", "float32")
    cases = [measure.Case(*case) for case in CASES]
    rows = [row for variant in ("a", "c") for row in measure.rows_of(model_type, variant, dtypes, cases)]
    assert rows, f"transformers has no model of type {model_type}"
    assert not [row["failed"] for row in rows if "failed" in row]
    return rows


def as_published(row: dict) -> dict:
    """The few fields that the config was made of, as a hub's config.json has them: the rest are defaults of the class."""
    of_wrapper = "text_config" in row["config_in"]
    config = {"model_type": row["model_type"] if of_wrapper else row["config"]["model_type"], **row["config_in"]}
    if row["task"] == "causal":  # a decoder taken out of a pair: its class says so when it is built
        config["is_encoder_decoder"] = False
    return config


def sized(model: kvcalc.Model, case: dict, encoder: set[int]) -> kvcalc.Report:
    settings = {name: case[name] for name in SETTINGS}
    if encoder:
        settings["encoder_tokens"] = case.get("encoder_len", max(encoder))
    return kvcalc.size(
        model,
        tokens=case["cached_tokens"],
        sequences=case["batch"],
        kv_dtype=case["dtype"],
        engine=f"transformers@{transformers.__version__}",
        engine_settings=settings,
    )


@pytest.mark.parametrize("model_type", TYPES)
def test_what_a_model_holds_is_what_kvcalc_says(model_type):
    for row in measured(model_type):
        encoder = {case["encoder_len"] for case in row["cases"] if "encoder_len" in case}
        for form, config in (("saved", row["config"]), ("published", as_published(row))):
            model = kvcalc.load(config)
            for case in row["cases"]:
                report = sized(model, case, encoder)
                storage_bytes = sum(tensor.storage_bytes for group in report.groups for tensor in group.tensors)
                told = (form, row["variant"], case)
                assert report.total_bytes == case["bytes"], told
                assert storage_bytes == case["storage_bytes"] or model_type in STORAGE_UNKNOWN, told
            assert len(row["cases"]) >= 2, row["refused"]


def test_every_family_meets_its_peer():
    family_of = {model_type: name for name, module in family_files().items() for model_type in module.MODEL_TYPES}
    inner = {name: entry.get("section_type", name) for name, entry in json.loads(TABLE.read_text()).items()}
    met = {family_of[inner[model_type]] for model_type in TYPES}
    assert met | WITHOUT_PEER >= {*family_of.values()}


def test_the_table_of_model_types_is_that_of_the_installed_classes():
    from tools.model_types import table

    assert TABLE.read_text() == table()[0], "a config class changed: run tools/model_types.py and read the difference"


def test_the_pinned_version_is_the_one_that_is_documented():
    pin = re.search(r'"transformers==(.*?)"', (ROOT / "pyproject.toml").read_text())[1]
    assert transformers.__version__ == pin
    assert f"transformers {pin.rsplit('.', 1)[0]}" in (ROOT / "docs/measured.md").read_text()
