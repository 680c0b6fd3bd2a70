"""What people call models: 232 names from public files with the preset that each must be taken for, or a refusal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import kvcalc
from kvcalc.io.loading import load_named
from kvcalc.io.presets import load_preset, preset_names, preset_source
from kvcalc.io.resolve import resolve, table
from kvcalc.io.resolve.rule import core_of

DATA = Path(__file__).parents[2] / "data"
NAMES = [line.split("\t")[:2] for line in (DATA / "names.tsv").read_text().splitlines() if line and line[0] != "#"]
LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 256,
}


@pytest.mark.parametrize(("name", "preset"), NAMES, ids=[name for name, _ in NAMES])
def test_names_that_people_use(name, preset):
    if preset == "refused":
        with pytest.raises((kvcalc.UnknownNameError, kvcalc.NotApplicableError)) as refused:
            resolve(name)
        assert "config.json" in refused.value.help
    else:
        assert load_named(name).name == preset


# What is taken for nothing ------------------------------------------------------------------------------------------

TRAPS = [
    "nvidia/Kimi-K2.6-Eagle3",
    "unsloth/Qwen3.6-27B-MTP-GGUF",
    "google/gemma-4-26B-A4B-it-assistant",
    "nvidia/Llama-3_1-Nemotron-Ultra-253B-v1",
    "Qwen/Qwen3-VL-8B-Thinking-Eagle",
    "openai/whisper-base",
    "facebook/bart",
    "cerebras/Qwen3-Coder-REAP-25B-A3B",
    "huihui-ai/Qwen3-8B-abliterated",
    "Qwen/Qwen3-8",
    "THUDM/glm-4-9b-chat-1m",
    "tiiuae/falcon",
    "unsloth/mistral-7b",
    "nvidia/nemo",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    "someone/DeepSeek-R1-Distill-Qwen-7B-AWQ",
    "deepseek-r1:8b",
]


@pytest.mark.parametrize("name", TRAPS)
def test_a_name_that_is_nearly_a_models_is_refused_with_the_nearest(name):
    with pytest.raises((kvcalc.UnknownNameError, kvcalc.NotApplicableError)) as refused:
        resolve(name)
    assert "config.json" in refused.value.help
    assert refused.value.help.count("'") <= 2 * 3


LIKE_LISTED = {
    "nvidia/DeepSeek-R1-0528-FP4": ("deepseek-r1", 163840),
    "someone/DeepSeek-R1-Distill-Qwen-14B-AWQ": ("qwen2.5-14b", 131072),
    "someone/Qwen3-4B-Instruct-2507-int4": ("qwen3-4b", 262144),
    "deepseek-r1:14b": ("qwen2.5-14b", 131072),
    "gemma3:4b-it-qat": ("gemma-3-4b", 131072),
}


@pytest.mark.parametrize("name", LIKE_LISTED)
def test_weights_in_another_format_of_a_listed_repository_are_known(name):
    preset, context = LIKE_LISTED[name]
    assert resolve(name).preset == preset
    assert load_named(name).max_model_len == context


def test_a_family_of_tags_is_asked_for_its_size():
    with pytest.raises(kvcalc.UnknownNameError) as refused:
        resolve("qwen3")
    assert "qwen3:8b" in refused.value.help


# What else is known of a name ----------------------------------------------------------------------------------------


def test_a_name_with_other_weights_leaves_the_weights_open():
    assert load_named("Qwen/Qwen3-32B").weights_bytes == load_preset("qwen3-32b").weights_bytes
    for name in ("Qwen/Qwen3-32B-AWQ", "someone/Qwen3-32B-int8"):
        assert load_named(name).weights_bytes is None
    assert load_named("meta-llama/Llama-3.1-8B").weights_bytes
    assert load_named("someone/Llama-3.1-8B-GGUF").weights_bytes is None


def test_a_name_with_another_context_has_it():
    assert load_named("Qwen/Qwen3-8B").max_model_len == 40960
    longer = load_named("Qwen/Qwen3-4B-Instruct-2507")
    assert longer.max_model_len == 262144
    assert "262,144 tokens" in " ".join(longer.notes)
    assert load_named("unsloth/Qwen3-8B-128K-GGUF").max_model_len == 131072
    assert load_named("qwen3:4b").max_model_len is None  # it may be the 2507 build


def test_a_name_whose_kin_declare_an_fp8_cache_says_so():
    assert "FP8" in " ".join(load_named("nvidia/Qwen3-8B-NVFP4").notes)
    assert "FP8" not in " ".join(load_named("Qwen/Qwen3-8B-AWQ").notes)


def test_a_checkpoint_that_declares_an_fp8_cache_has_one():
    """As vLLM and SGLang read it; the ideal engine takes what is asked for."""
    name = "nvidia/Gemma-4-31B-IT-NVFP4"
    assert table.row_of(name).declares_fp8
    halves = kvcalc.size(load_named(name), tokens=1024, engine="vllm")
    whole = kvcalc.size(load_preset("gemma-4-31b"), tokens=1024, engine="vllm")
    assert 2 * halves.total_bytes == whole.total_bytes


@pytest.mark.parametrize(
    ("repository", "core"),
    [
        ("RedHatAI/Qwen3-8B-quantized.w4a16", "qwen3-8b"),
        ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", "llama-3.1-8b".replace("llama", "meta-llama")),
        ("meta-llama/Meta-Llama-3-8B", "llama-3-8b"),
        ("x/Phi_4_mini-GPTQ-Int4", "phi-4-mini"),
        ("x/Qwen3-8B-FP8-dynamic", "qwen3-8b"),
        ("google/gemma-3-27b-it-qat", "gemma-3-27b"),
        ("openai/whisper-base", "whisper-base"),
        ("x/gguf", "gguf"),
        ("x/model.gguf", "model"),
    ],
)
def test_endings_that_keep_the_cache_are_taken_off(repository, core):
    assert core_of(repository).name == core.removeprefix("meta-")


# The table -----------------------------------------------------------------------------------------------------------


def test_every_row_is_one_of_a_preset():
    rows = table.rows()
    names = [row.name.lower() for row in rows]
    assert len(rows) > 1400
    assert names == sorted(set(names))
    assert {row.preset for row in rows} - {""} <= set(preset_names())
    assert all(row.remark for row in rows if not row.preset)


@pytest.mark.parametrize("preset", preset_names())
def test_the_repository_of_a_preset_is_taken_for_it(preset):
    source = preset_source(preset)
    if not source:
        pytest.skip("its facts are from a paper")
    assert resolve(source).preset == preset
    assert resolve(source.upper()).preset == preset


def test_a_row_is_found_whole():
    assert table.row_of("Qwen/Qwen3-8B").preset == "qwen3-8b"
    for part in ("Qwen/Qwen3-8", "wen/Qwen3-8B", "", "\n", "Qwen/Qwen3-8B\tqwen3-8b"):
        assert table.row_of(part) is None


# The order of places -------------------------------------------------------------------------------------------------


def write_config(folder: Path, **more) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(LLAMA | more))
    return folder


def test_a_path_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config(Path("Qwen/Qwen3-8B"))
    write_config(Path("r1"))
    (tmp_path / "qwen3-8b").mkdir()  # a folder that holds no model is no model
    assert load_named("Qwen/Qwen3-8B").num_layers == 2
    assert load_named("r1").num_layers == 2
    assert "folder r1" in " ".join(load_named("r1").notes)
    assert load_named("qwen3-8b").num_layers == 36


def in_the_hub_cache(home: Path, repository: str, commit: str = "0a1b2c", **more) -> Path:
    folder = home / "hub" / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    return write_config(folder / "snapshots" / commit, **more)


def test_a_repository_in_the_hubs_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    snapshot = in_the_hub_cache(tmp_path, "acme/Odd-8B")
    for model in (load_named("acme/Odd-8B"), load_named("acme/Odd-8B@0a1b2c"), kvcalc.load(snapshot)):
        assert model.name == "acme/Odd-8B"
        assert model.num_layers == 2
    assert "Hugging Face cache" in " ".join(load_named("acme/Odd-8B").notes)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(kvcalc.UnknownNameError):
        load_named("acme/Odd-8B")


def test_a_tag_in_ollamas_store(tmp_path, monkeypatch):
    from gguf_files import TINY, gguf

    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    manifest = tmp_path / "manifests" / "registry.ollama.ai" / "library" / "odd" / "7b"
    manifest.parent.mkdir(parents=True)
    layers = [{"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:1"}]
    layers.append({"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:2"})
    manifest.write_text(json.dumps({"layers": layers}))
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "sha256-2").write_bytes(gguf(TINY))
    model = load_named("odd:7b")
    assert (model.name, model.num_layers) == ("odd:7b", 2)
    assert "Ollama's store" in " ".join(model.notes)


def test_a_repository_in_lm_studios_store(tmp_path, monkeypatch):
    from gguf_files import TINY, gguf

    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".lmstudio" / "models" / "acme" / "Odd-GGUF"
    folder.mkdir(parents=True)
    (folder / "odd-Q4_K_M.gguf").write_bytes(gguf(TINY))
    (folder / "mmproj-odd.gguf").write_bytes(b"")
    assert load_named("acme/Odd-GGUF").num_layers == 2


@pytest.mark.parametrize(
    "name", ["../x/y", "/etc/passwd", "a/../b", "..:x", "a\nb", "\0", "x" * 5000, "a/" + "b" * 5000]
)
def test_names_that_lead_out_of_a_store_lead_nowhere(name):
    with pytest.raises(kvcalc.KvcalcError):
        load_named(name)


def test_standard_input_holds_a_config(cli, tmp_path, monkeypatch):
    import subprocess
    import sys

    for text in (
        json.dumps(LLAMA),
        yaml.safe_dump({"num_layers": 2, "attention": "gqa", "num_query_heads": 4, "num_kv_heads": 2, "head_dim": 64}),
    ):
        command = [sys.executable, "-m", "kvcalc", "size", "-", "1000", "-f", "json"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["total_bytes"] == 2 * 2 * 2 * 64 * 1000 * 2  # K and V, layers, heads, bytes


# Everywhere alike ----------------------------------------------------------------------------------------------------


def test_every_door_takes_the_same_names(cli, tmp_path):
    want = kvcalc.size(kvcalc.load("qwen3-8b"), tokens=1000).total_bytes
    for words in ("Qwen/Qwen3-8B 1000", "qwen3:8b -t 1000", "-p Qwen/Qwen3-8B -t 1000", "-m qwen3-8b -t 1000"):
        assert json.loads(cli(f"size {words} -f json").stdout)["total_bytes"] == want
    assert kvcalc.size(kvcalc.load("Qwen/Qwen3-8B"), tokens=1000).total_bytes == want
    compared = json.loads(cli("compare Qwen/Qwen3-8B qwen3:8b -t 1000 -f json").stdout)
    assert [row["reports"][0]["total_bytes"] for row in compared["rows"]] == [want, want]
    for model in ("Qwen/Qwen3-8B", "qwen3:8b"):
        plan = tmp_path / "plan.yaml"
        plan.write_text(
            yaml.safe_dump({"deployments": [{"name": "a", "model": model, "tokens": 1000, "budget": "1GB"}]})
        )
        assert json.loads(cli(f"check {plan} -f json").stdout)["findings"][0]["needed_bytes"] == want
        fitted = json.loads(cli(f"fit {model} --gpu h100 --weights 16GB -t 1000 -f json").stdout)
        assert fitted["needed_bytes"] == [want]


def test_one_model_is_named_once(cli):
    assert cli("size r1 -p r1 -t 1").stderr.startswith("MODEL and --preset each name a model")
    assert cli("size -p r1 8k").stderr.endswith("help: 8k reads as tokens: write -t 8k\n")


# Addresses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["https://huggingface.co/Qwen/Qwen3-8B", "hf.co/Qwen/Qwen3-8B", "https://huggingface.co/Qwen/Qwen3-8B/tree/main"],
)
def test_an_address_is_the_repository_that_it_is_of(address):
    assert load_named(address) == load_named("Qwen/Qwen3-8B")


@pytest.mark.parametrize("name", ["https://huggingface.co/org/unheard-of", "org/unheard-of", "org/unheard-of:Q4_K_M"])
def test_a_repository_that_is_not_known_says_that_the_hub_can_be_asked(name):
    with pytest.raises(kvcalc.UnknownNameError, match="is not a known repository") as refused:
        resolve(name)
    assert "--hub" in refused.value.help


def test_a_gguf_file_is_named_by_its_quantisation():
    """bartowski/Qwen3-8B-GGUF has a file for each, as llama.cpp's -hf names it."""
    model = kvcalc.load("bartowski/Qwen3-8B-GGUF:Q4_K_M")
    assert (model.checkpoint.preset, model.checkpoint.format) == ("qwen3-8b", "q4_k_m")
    with pytest.raises(kvcalc.KvcalcError):
        kvcalc.load("Qwen/Qwen3-8B:Q4_K_M")
