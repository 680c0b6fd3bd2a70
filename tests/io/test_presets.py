"""The shipped presets: facts only, found by name and alias, valid by the schema that editors use."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.hardware import GPUS_FILE, presets_folder
from kvcalc.io.documents import parse_yaml
from kvcalc.io.plans import load_plan
from kvcalc.io.presets import (
    MODEL_FIELDS,
    dump_preset,
    load_preset,
    parse_preset,
    preset_aliases,
    preset_names,
)
from kvcalc.io.schemas import schema
from kvcalc.registry import plain_yaml

NAMES = preset_names()
REQUIRED = [
    "deepseek-r1",
    "deepseek-v3",
    "deepseek-v2-lite",
    "llama-2-7b",
    "llama-2-70b",
    "llama-3-70b",
    "llama-3.1-8b",
    "llama-3.1-70b",
    "llama-3.1-405b",
    "llama-3.3-70b",
    "llama-4-scout",
    "mistral-7b-v0.1",
    "mixtral-8x7b",
    "mistral-nemo",
    "qwen2.5-72b",
    "qwen3-8b",
    "qwen3-32b",
    "qwen3-235b-a22b",
    "gpt-oss-20b",
    "gpt-oss-120b",
    "gemma-2-9b",
    "gemma-3-27b",
    "falcon-7b",
    "kimi-k2",
]


def file_of(name: str) -> Path:
    return presets_folder() / f"{name}.yaml"


def test_the_models_that_people_ask_for_are_there():
    assert set(REQUIRED) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_named_as_its_file_and_says_its_source(name):
    model = load_preset(name)
    assert model.name == name
    assert model.source
    assert file_of(name).read_text().startswith("source: ")


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_written_as_kvcalc_writes_it(name):
    aliases = [alias for alias, target in preset_aliases().items() if target == name]
    assert dump_preset(load_preset(name), aliases) == file_of(name).read_text()


@pytest.fixture(scope="module")
def preset_schema() -> jsonschema.Draft202012Validator:
    """Checked once: jsonschema.validate would hold the schema against its own for every preset."""
    jsonschema.Draft202012Validator.check_schema(schema("preset"))
    return jsonschema.Draft202012Validator(schema("preset"))


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_accepts_every_preset(name, preset_schema):
    preset_schema.validate(yaml.safe_load(file_of(name).read_text()))


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_plain_enough_to_be_read_without_the_yaml_library(name):
    text = file_of(name).read_text()
    values, lines = plain_yaml.parse(text)
    document = parse_yaml(text, name)
    assert values == document.data
    assert lines == document.lines


def test_the_gpus_are_plain_enough_to_be_read_without_the_yaml_library():
    text = (presets_folder() / GPUS_FILE).read_text()
    assert plain_yaml.parse(text)[0] == yaml.safe_load(text)


def test_no_two_presets_claim_one_name():
    claims = [*NAMES, *(a for name in NAMES for a in yaml.safe_load(file_of(name).read_text()).get("aliases", []))]
    assert sorted(claims) == sorted(set(claims))
    assert set(claims) == {*NAMES, *preset_aliases()}
    assert all(claim == claim.lower() for claim in claims)


@pytest.mark.parametrize(
    ("alias", "name"), [("r1", "deepseek-r1"), ("R1", "deepseek-r1"), ("llama3-70b", "llama-3-70b")]
)
def test_aliases_lead_to_their_preset(alias, name):
    assert kvcalc.load(alias).name == name


@pytest.mark.parametrize("name", ["gpus", "GPUS", "", "../pyproject", "r1\n", "\0"])
def test_what_is_no_preset_is_not_read(name):
    with pytest.raises(kvcalc.KvcalcError):
        kvcalc.load(name)


@given(st.text(alphabet="ab:,{}[] \n\t#-'\"&*!|>%@`01._~yno", max_size=60))
def test_the_plain_reader_reads_what_the_library_reads_or_nothing(text):
    plain = plain_yaml.parse(text)
    if plain is not None and plain[0]:
        assert plain[0] == parse_yaml(text, "text").data


@pytest.mark.parametrize(
    "text",
    [
        "a: yes",
        "a: 1.5",
        "a: 0x10",
        "a: 1:30",
        "a: ~",
        "a:\n  b: 1\n   c: 2",
        "a: 1\na: 2",
        "a: b: c",
        "a: 07",
        "a: [x, , y]",
        "a: {b: 1, b: 2}x",
    ],
)
def test_the_plain_reader_leaves_the_rest_to_the_library(text):
    assert plain_yaml.parse(text) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda preset: preset.pop("num_layers"),
        lambda preset: preset.pop("head_dim"),
        lambda preset: preset.update(num_layers="80"),
        lambda preset: preset.update(num_layers=0),
        lambda preset: preset.update(num_kv_head=8),
        lambda preset: preset.update(attention="gca"),
    ],
)
def test_the_schema_and_the_reader_refuse_the_same_presets(spoil):
    preset = yaml.safe_load(file_of("llama-3-70b").read_text())
    spoil(preset)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(preset, schema("preset"))
    with pytest.raises(kvcalc.KvcalcError):
        kvcalc.load(preset)


def test_every_field_of_the_preset_schema_is_described():
    described = schema("preset")["properties"]
    assert all(rule["description"].strip(".") for rule in described.values())
    assert set(MODEL_FIELDS) < set(described)


@pytest.mark.parametrize(
    "path",
    [
        "examples/plans/prod.yaml",
        "examples/plans/served.yaml",
        "tests/plans/too_large.yaml",
        "tests/plans/served_too_large.yaml",
    ],
)
def test_the_plan_schema_accepts_plans_and_refuses_a_typo(path):
    plan = yaml.safe_load((Path(__file__).parents[2] / path).read_text())
    jsonschema.validate(plan, schema("plan"))
    spoiled = copy.deepcopy(plan)
    spoiled["deployments"][0]["tokns"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spoiled, schema("plan"))


def test_the_schemas_are_json_and_schemas(cli):
    for kind in ("plan", "preset"):
        jsonschema.Draft202012Validator.check_schema(json.loads(cli(f"schema {kind}").stdout))


def test_a_dict_and_a_file_are_the_same_model(tmp_path):
    values = yaml.safe_load(file_of("gemma-3-27b").read_text())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    assert kvcalc.load(values) == kvcalc.load(tmp_path / "mine.yaml") == kvcalc.load("gemma-3-27b")


def test_aliases_of_yaml_may_be_used_in_presets():
    text = "num_layers: 2\nlayer_pattern: [a, b]\nlayers:\n  a: &a {attention: gqa, num_query_heads: 2, num_kv_heads: 1, head_dim: 4}\n  b: *a\n"
    assert kvcalc.size(parse_preset(parse_yaml(text, "x")), tokens=1).total_bytes == 2 * 2 * 4 * 2


def test_separate_value_widths_and_heads_for_each_kind_of_layer():
    model = kvcalc.load(
        {
            "num_layers": 5,
            "layer_types": ["a", "b", "a", "b", "b"],
            "layers": {
                "a": {"attention": "gqa", "num_query_heads": 64, "num_kv_heads": 4, "head_dim": 192, "v_head_dim": 128},
                "b": {
                    "attention": "gqa",
                    "num_query_heads": 64,
                    "num_kv_heads": 8,
                    "head_dim": 192,
                    "v_head_dim": 128,
                    "sliding_window": 128,
                },
            },
        }
    )
    # MiMo-V2-Flash's widths: n * heads * (192 + 128) elements a layer, two layers of 4 heads and three of 8.
    assert kvcalc.size(model, tokens=1000).total_bytes == 2 * (2 * 1000 * 4 * 320 + 3 * 128 * 8 * 320)


def test_a_gpu_limit_is_exact_arithmetic(tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "deployments:\n- {name: a, model: r1, tokens: 1, gpu: h200, gpu_memory_utilization: 0.9, weights: 1GB, reserve: 1GiB}\n"
    )
    (deployment,) = load_plan(plan)
    assert deployment.limit.available_bytes == 150110994432 * 9 // 10 - 10**9 - 2**30


def test_a_model_path_in_a_plan_is_relative_to_the_plan(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(file_of("falcon-7b").read_text())
    (tmp_path / "plan.yaml").write_text("deployments:\n- {name: a, model: ./mine.yaml, tokens: 1, budget: 8192B}\n")
    monkeypatch.chdir("/")
    assert load_plan(tmp_path / "plan.yaml")[0].asked.model.name == "falcon-7b"


def test_presets_new_writes_what_validate_accepts(cli, tmp_path):
    config = {
        "model_type": "gemma2",
        "num_hidden_layers": 6,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "sliding_window": 4096,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    written = cli(f"presets new {tmp_path}")
    (tmp_path / "mine.yaml").write_text(written.stdout)
    outcome = cli(f"presets validate {tmp_path / 'mine.yaml'}")
    assert outcome.code == 0
    assert outcome.stdout.endswith("is valid: 6 layers (3 sliding GQA-8, 3 full GQA-8)\n")
    assert kvcalc.load(tmp_path / "mine.yaml").groups == kvcalc.load(tmp_path).groups
