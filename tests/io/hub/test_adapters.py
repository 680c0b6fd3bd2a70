"""Adapters on a hub: their base is read from there, at the revision that they name, and never from this disk."""

from __future__ import annotations

import json

import pytest
from checkpoint_files import LLAMA, LLAMA_TOKEN_BYTES, safetensors
from hub_server import COMMIT, OTHER

import kvcalc


def adapter(base: str, **more: object) -> dict[str, object]:
    return {"peft_type": "LORA", "base_model_name_or_path": base, "r": 16, **more}


def test_the_base_is_read_from_the_hub_too(hub):
    hub.add("org/base", {"config.json": LLAMA, "model.safetensors": safetensors({"a": (10, 10)})}, OTHER)
    hub.add(
        "me/lora", {"adapter_config.json": adapter("org/base"), "adapter_model.safetensors": safetensors({"b": (3,)})}
    )
    model = kvcalc.load("me/lora", hub=True)
    assert kvcalc.size(model, tokens=1).total_bytes == LLAMA_TOKEN_BYTES
    assert model.notes == (
        f"read from the Hub ({hub.host}): me/lora at commit {COMMIT}",
        "me/lora is an adapter of org/base: the cache is the base model's",
        f"read from the Hub ({hub.host}): org/base at commit {OTHER}",
    )
    assert model.source == f"org/base@{OTHER}/config.json"
    assert (model.weights_bytes, model.weights_source) == (200, f"org/base at {OTHER}, model.safetensors")
    assert not [path for path in hub.paths if "adapter_model" in path]


def test_the_base_is_of_the_revision_that_the_adapter_names(hub):
    hub.add("org/base", {"config.json": LLAMA})
    hub.add("org/base", {"config.json": {**LLAMA, "num_hidden_layers": 5}}, OTHER, "v1")
    hub.add("me/lora", {"adapter_config.json": adapter("org/base", revision="v1")})
    assert kvcalc.load("me/lora", hub=True).num_layers == 5


@pytest.mark.parametrize("relative", [False, True])
def test_the_base_is_no_file_of_this_disk(hub, tmp_path, monkeypatch, relative):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    monkeypatch.chdir(tmp_path)
    hub.add("me/lora", {"adapter_config.json": adapter("config.json" if relative else str(tmp_path))})
    with pytest.raises(kvcalc.KvcalcError):
        kvcalc.load("me/lora", hub=True)
    assert len([path for path in hub.paths if "/resolve/" in path]) == 1


def test_an_adapter_of_itself_ends(hub):
    hub.add("me/lora", {"adapter_config.json": adapter("me/lora")})
    with pytest.raises(kvcalc.InvalidFileError, match="and itself the base of an adapter"):
        kvcalc.load("me/lora", hub=True)
