"""The schema of plans, by which editors complete and check them: in step with what kvcalc knows, and takes."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from kvcalc.cache.dtypes import DTYPES, dtype_named
from kvcalc.engines import ENGINES
from kvcalc.engines.base import Engine
from kvcalc.errors import InvalidValueError
from kvcalc.hardware.naming import device, spellings
from kvcalc.io.schemas import schema

ROOT = Path(__file__).parents[2]
ENTRY = schema("plan")["$defs"]["DeploymentEntry"]["properties"]
PLAN = jsonschema.Draft202012Validator(schema("plan"))


def names(field: str) -> list[str]:
    return next(arm["enum"] for arm in ENTRY[field]["anyOf"] if "enum" in arm)


def says_which(name: str) -> bool:
    try:
        return bool(device(name))
    except InvalidValueError:
        return False


def takes(**fields: object) -> bool:
    return PLAN.is_valid({"deployments": [{"name": "a", "model": "r1", "tokens": 1, "budget": "1GB", **fields}]})


@pytest.mark.parametrize("kind", ["plan", "preset"])
def test_each_schema_is_one_and_has_an_identity(kind):
    jsonschema.Draft202012Validator.check_schema(schema(kind))
    assert schema(kind)["$id"] == f"https://github.com/kvcalc/kvcalc/schemas/{kind}-1.json"


def test_the_names_are_those_that_are_known():
    assert {name.replace("-", "_") for name in ENGINES.names()} <= set(names("engine"))
    assert {dtype.name for dtype in DTYPES} <= set(names("kv_dtype"))
    assert {name for name in spellings() if says_which(name)} == set(names("gpu"))


def test_each_name_is_taken():
    for name in names("engine"):
        Engine.of(name)
    for name in names("kv_dtype"):
        dtype_named(name)
    for name in names("gpu"):
        assert device(name).name


@pytest.mark.parametrize(
    ("fields", "valid"),
    [
        ({"engine": "vllm"}, True),
        ({"engine": "vLLM@0.33"}, True),
        ({"engine": "llama.cpp@b6000"}, True),
        ({"engine": None}, True),
        ({"engine": "vlm"}, False),
        ({"engine": "vllm@"}, False),
        ({"engine": 1}, False),
        ({"kv_dtype": "BF16"}, True),
        ({"kv_dtype": "fp8_e5m2"}, True),
        ({"kv_dtype": "bf61"}, False),
        ({"kv_dtype": "q8_0"}, True),
        ({"gpu": "NVIDIA H100 80GB HBM3"}, True),
        ({"gpu": 4090}, True),
        ({"gpu": ""}, False),
        ({"gpu": ["h100"]}, False),
        ({"gpus": "2"}, False),
        ({"sped": 1}, False),
    ],
    ids=str,
)
def test_what_is_valid(fields, valid):
    assert takes(**fields) == valid


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("examples/plans/*.yaml"), *ROOT.glob("tests/plans/**/*.yaml")]), ids=str
)
def test_plans_that_are_read_are_valid(path):
    PLAN.validate(yaml.safe_load(path.read_text()))
