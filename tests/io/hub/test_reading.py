"""Models read from a hub by the real client: which files of which commit, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoint_files import LLAMA, LLAMA_TOKEN_BYTES, gguf_model, safetensors
from gguf_files import TINY
from hub_server import COMMIT, OTHER, Hub, send

import kvcalc
from kvcalc.errors import KvcalcError
from kvcalc.io.hub import pinned, weights_of
from kvcalc.io.loading import forget
from kvcalc.io.resolve.reference import Reference

MATRICES = {"a.weight": (100, 30), "b.weight": (7,)}
MATRICES_BYTES = 2 * (100 * 30 + 7)
RESOLVE = f"/org/tiny/resolve/{COMMIT}"


def added(hub: Hub, files: dict[str, object] | None = None, name: str = "org/tiny") -> None:
    hub.add(name, {"config.json": LLAMA, "model.safetensors": safetensors(MATRICES), **(files or {})})


def token_bytes(model) -> int:
    return kvcalc.size(model, tokens=1).total_bytes


# What is read ---------------------------------------------------------------------------------------------------------


def test_a_repository_is_read_at_the_commit_that_main_is(hub):
    added(hub)
    model = kvcalc.load("org/tiny", hub=True)
    assert token_bytes(model) == LLAMA_TOKEN_BYTES
    assert model.name == "org/tiny"
    assert model.source == f"org/tiny@{COMMIT}/config.json"
    assert model.notes == (f"read from the Hub ({hub.host}): org/tiny at commit {COMMIT}",)
    assert (model.weights_bytes, model.weights_source) == (MATRICES_BYTES, f"org/tiny at {COMMIT}, model.safetensors")


def test_config_and_header_are_fetched_and_no_byte_of_the_data(hub):
    added(hub, {"tokenizer.json": b"{}" * 1000, "README.md": b"# tiny", "model.bin": b"\0" * 1000})
    kvcalc.load("org/tiny", hub=True)
    header_bytes = len(safetensors(MATRICES)) - MATRICES_BYTES
    asked = [(request.path, request.range) for request in hub.requests if request.host == "hub"]
    assert asked == [
        ("/api/models/org/tiny/revision/main", ""),
        (f"{RESOLVE}/config.json", ""),
        (f"{RESOLVE}/model.safetensors", "bytes=0-7"),
        (f"{RESOLVE}/model.safetensors", f"bytes=8-{header_bytes - 1}"),
    ]


@pytest.mark.parametrize("revision", ["v1", "refs/pr/1", OTHER])
def test_a_revision_is_a_branch_a_tag_a_pull_request_or_a_commit(hub, revision):
    added(hub)
    hub.add("org/tiny", {"config.json": {**LLAMA, "num_hidden_layers": 3}}, OTHER, revision)
    model = kvcalc.load(f"org/tiny@{revision}", hub=True)
    assert model.num_layers == 3
    assert model.source == f"org/tiny@{OTHER}/config.json"
    assert kvcalc.load("org/tiny", hub=True).num_layers == 2


def test_all_files_come_from_one_commit_though_main_moves_on(hub):
    added(hub)
    repository = pinned(Reference("org/tiny"))
    hub.add("org/tiny", {"config.json": {**LLAMA, "num_hidden_layers": 3}}, OTHER)
    assert json.loads(repository.text("config.json"))["num_hidden_layers"] == 2
    assert all(OTHER not in path for path in hub.paths)


def test_a_renamed_repository_is_called_as_it_is_now(hub):
    added(hub)
    hub.renamed["tiny"] = "org/tiny"
    assert kvcalc.load("tiny", hub=True).name == "org/tiny"


def test_a_presets_name_stands_for_the_repository_that_it_was_read_from(hub):
    added(hub, name="deepseek-ai/DeepSeek-R1")
    model = kvcalc.load("r1", hub=True)
    assert model.name == "deepseek-ai/DeepSeek-R1"
    assert token_bytes(model) == LLAMA_TOKEN_BYTES  # of the file that the hub has, not of the preset
    assert model.notes[0] == "r1 stands for deepseek-ai/DeepSeek-R1"


def test_a_repository_that_a_preset_knows_is_read_from_the_hub_all_the_same(hub):
    added(hub, name="Qwen/Qwen3-8B")
    assert kvcalc.load("Qwen/Qwen3-8B", hub=True).num_layers == 2
    assert kvcalc.load("Qwen/Qwen3-8B").num_layers == 36


def test_a_path_is_still_a_path(hub, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert kvcalc.load(str(tmp_path), hub=True).num_layers == 2
    assert kvcalc.load(str(tmp_path / "config.json"), hub=True).num_layers == 2
    assert hub.requests == []


def test_modelopts_file_is_read_where_the_config_says_nothing_of_it(hub):
    added(hub, {"hf_quant_config.json": {"quantization": {"kv_cache_quant_algo": "FP8"}}})
    assert kvcalc.load("org/tiny", hub=True).published.kv_dtype == "fp8"


def test_a_repository_of_mistrals_has_params(hub):
    params = {"dim": 256, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 64, "hidden_dim": 512}
    hub.add("org/mistral", {"params.json": params, "consolidated.safetensors": safetensors(MATRICES)})
    model = kvcalc.load("org/mistral", hub=True)
    assert token_bytes(model) == LLAMA_TOKEN_BYTES
    assert model.source.endswith("/params.json")
    assert model.weights_bytes == MATRICES_BYTES


# Weights --------------------------------------------------------------------------------------------------------------


def weights(hub: Hub, **files: bytes | dict) -> object:
    hub.add("org/tiny", {"config.json": LLAMA, **{name.replace("__", "."): c for name, c in files.items()}})
    return weights_of(pinned(Reference("org/tiny")))


def test_headers_say_name_format_and_shape_of_each_tensor(hub):
    found = weights(hub, model__safetensors=safetensors({"x": (3, 5), "y": (2,)}, "F32"))
    assert found.bytes == 4 * 17
    assert [tuple(tensor) for tensor in found.tensors] == [("x", "F32", (3, 5), 60), ("y", "F32", (2,), 8)]


def test_an_index_says_the_sum_without_a_header(hub):
    index = {"metadata": {"total_size": 16_381_470_720}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    shard = {f"model-0000{part}-of-00002.safetensors": safetensors(MATRICES) for part in (1, 2)}
    hub.add("org/tiny", {"config.json": LLAMA, "model.safetensors.index.json": index, **shard})
    assert weights_of(pinned(Reference("org/tiny"))).bytes == 16_381_470_720
    assert all(not request.range for request in hub.requests)


@pytest.mark.parametrize("index", [{}, {"model.safetensors.index.json": {"weight_map": {}}}])
def test_shards_without_an_index_that_says_the_sum_are_read_each(hub, index):
    shards = {f"model-0000{part}-of-00002.safetensors": safetensors(MATRICES) for part in (1, 2)}
    hub.add("org/tiny", {"config.json": LLAMA, **shards, **index})
    found = weights_of(pinned(Reference("org/tiny")))
    assert found.bytes == 2 * MATRICES_BYTES
    assert found.source == f"org/tiny at {COMMIT}, headers of 2 safetensors files"


def test_weights_in_other_files_are_those_of_the_config(hub):
    hub.add("org/tiny", {"config.json": LLAMA, "pytorch_model.bin": b"\x80", "vae.safetensors": safetensors(MATRICES)})
    assert weights_of(pinned(Reference("org/tiny"))) is None
    found = kvcalc.fit_gpus(kvcalc.load("org/tiny", hub=True), gpu="h100")
    assert "parameters of LlamaForCausalLM" in found.weights_source
    unknown = {**LLAMA, "extra_experts": 4}
    hub.add("org/other", {"config.json": unknown, "pytorch_model.bin": b"\x80"})
    with pytest.raises(KvcalcError, match="weights size unknown: a LlamaForCausalLM has no extra_experts"):
        kvcalc.fit_gpus(kvcalc.load("org/other", hub=True), gpu="h100")


def test_a_copy_in_mistrals_format_is_not_counted_twice(hub):
    found = weights(hub, model__safetensors=safetensors(MATRICES), consolidated__safetensors=safetensors(MATRICES))
    assert found.bytes == MATRICES_BYTES


def test_weights_of_the_hub_need_no_option(hub, cli):
    added(hub)
    out = cli("fit org/tiny --hub --gpu h100 --format json")
    assert out.code == 0, out.stderr
    assert f"org/tiny at {COMMIT}, model.safetensors" in out.stdout


# GGUF -----------------------------------------------------------------------------------------------------------------

GGUF = gguf_model({"token_embd.weight": (64, 10), "output_norm.weight": (64,)})
GGUF_BYTES = 2 * (640 + 64)
NAMES = ("tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf", "tiny-IQ4_XS.gguf", "mmproj-tiny-f16.gguf")


def with_ggufs(hub: Hub, *names: str) -> None:
    hub.add("org/tiny-GGUF", {"README.md": b"", **dict.fromkeys(names or NAMES, GGUF)})


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("org/tiny-GGUF:Q4_K_M", "tiny-Q4_K_M.gguf"),
        ("org/tiny-GGUF:q4_k_m", "tiny-Q4_K_M.gguf"),
        ("org/tiny-GGUF:Q8_0", "tiny-Q8_0.gguf"),
        ("org/tiny-GGUF/tiny-Q8_0.gguf", "tiny-Q8_0.gguf"),
        ("org/tiny-GGUF@main:IQ4_XS", "tiny-IQ4_XS.gguf"),
        (f"org/tiny-GGUF@{COMMIT}/tiny-Q8_0.gguf", "tiny-Q8_0.gguf"),
        ("https://huggingface.co/org/tiny-GGUF/blob/main/tiny-Q8_0.gguf", "tiny-Q8_0.gguf"),
        ("hf.co/org/tiny-GGUF:Q8_0", "tiny-Q8_0.gguf"),
    ],
)
def test_a_gguf_file_is_named_by_itself_or_by_its_quantisation(hub, name, file):
    with_ggufs(hub)
    model = kvcalc.load(name, hub=True)
    assert model.source == f"org/tiny-GGUF@{COMMIT}/{file}"
    assert model.weights_bytes == GGUF_BYTES
    assert model.num_layers == TINY["llama.block_count"]
    files = [path for path in hub.paths if "/resolve/" in path]
    assert set(files) == {f"/org/tiny-GGUF/resolve/{COMMIT}/{file}"}


def test_the_only_gguf_file_needs_no_name(hub):
    with_ggufs(hub, "tiny.gguf", "mmproj.gguf")
    assert kvcalc.load("org/tiny-GGUF", hub=True).source.endswith("/tiny.gguf")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org/tiny-GGUF", "and 3 GGUF files"),
        ("org/tiny-GGUF:Q2_K", "has 0 GGUF files of Q2_K"),
        ("org/tiny-GGUF/tiny-Q2_K.gguf", "has no such file"),
    ],
)
def test_which_gguf_file_is_never_guessed(hub, name, message):
    with_ggufs(hub)
    with pytest.raises(KvcalcError, match=message) as refused:
        kvcalc.load(name, hub=True)
    assert "tiny-Q4_K_M.gguf" in refused.value.help


def test_a_quantisation_of_two_files_is_asked_back(hub):
    with_ggufs(hub, "tiny-Q4_K_M.gguf", "tiny-UD-Q4_K_M.gguf", "tiny-UD-Q4_K_XL.gguf")
    with pytest.raises(kvcalc.UnknownNameError, match="has 2 GGUF files of Q4_K_M"):
        kvcalc.load("org/tiny-GGUF:Q4_K_M", hub=True)
    assert kvcalc.load("org/tiny-GGUF:UD-Q4_K_XL", hub=True).source.endswith("UD-Q4_K_XL.gguf")


def test_weights_of_a_split_gguf_are_those_of_all_parts(hub):
    parts = [f"Q8_0/tiny-Q8_0-0000{part}-of-00002.gguf" for part in (1, 2)]
    second = gguf_model({"blk.1.attn_q.weight": (64, 64)}, {"split.no": 1})
    hub.add("org/tiny-GGUF", {parts[0]: GGUF, parts[1]: second})
    model = kvcalc.load("org/tiny-GGUF:Q8_0", hub=True)
    assert model.weights_bytes == GGUF_BYTES + 2 * 64 * 64
    hub.add("org/tiny-GGUF", {parts[0]: GGUF})
    with pytest.raises(kvcalc.InvalidFileError, match="is one of 2 parts, but does not exist"):
        kvcalc.load("org/tiny-GGUF:Q8_0", hub=True)


def test_of_a_large_gguf_file_the_header_is_fetched(hub):
    large = gguf_model({"token_embd.weight": (64, 200_000)})
    hub.add("org/tiny-GGUF", {"tiny.gguf": large})
    assert kvcalc.load("org/tiny-GGUF", hub=True).weights_bytes == 2 * 64 * 200_000
    assert [request.range for request in hub.requests if request.host == "store"] == ["bytes=0-1048575"]


# The cache ------------------------------------------------------------------------------------------------------------


def test_what_is_in_the_cache_is_not_fetched_again(hub):
    added(hub)
    first = kvcalc.load("org/tiny", hub=True)
    hub.requests.clear()
    forget()
    assert kvcalc.load("org/tiny", hub=True) == first
    assert f"{RESOLVE}/config.json" not in hub.paths


def test_files_are_kept_where_the_library_looks_for_them(hub, tmp_path):
    from huggingface_hub import hf_hub_download, scan_cache_dir, try_to_load_from_cache

    added(hub)
    kvcalc.load("org/tiny", hub=True)
    path = hf_hub_download("org/tiny", "config.json", local_files_only=True)
    assert json.loads(Path(path).read_text()) == LLAMA
    assert path == try_to_load_from_cache("org/tiny", "config.json", revision=COMMIT)
    scanned = scan_cache_dir(tmp_path / "cache")
    assert not scanned.warnings
    assert [(repo.repo_id, repo.nb_files) for repo in scanned.repos] == [("org/tiny", 1)]


def test_what_the_library_downloaded_is_read_and_not_fetched(hub):
    from huggingface_hub import hf_hub_download

    added(hub)
    for file in ("config.json", "model.safetensors"):
        hf_hub_download("org/tiny", file)
    hub.requests.clear()
    assert kvcalc.load("org/tiny", hub=True).weights_bytes == MATRICES_BYTES
    assert hub.paths == ["/api/models/org/tiny/revision/main"]


def test_a_cache_that_cannot_be_written_is_done_without(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    added(hub)
    assert kvcalc.load("org/tiny", hub=True).num_layers == 2


def test_without_symlinks_files_are_copied(hub, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True, raising=False)
    added(hub)
    kvcalc.load("org/tiny", hub=True)
    kept = tmp_path / "cache" / "models--org--tiny" / "snapshots" / COMMIT / "config.json"
    assert kept.is_file() and not kept.is_symlink()


def test_a_name_of_a_blob_that_leads_out_of_the_cache_is_not_kept(hub, tmp_path):
    added(hub)
    content = json.dumps(LLAMA).encode()
    hub.answers[f"{RESOLVE}/config.json"] = lambda handler: send(
        handler, 200, content, {"X-Repo-Commit": COMMIT, "ETag": '"../../../../escaped"'}
    )
    assert kvcalc.load("org/tiny", hub=True).num_layers == 2
    assert not list(tmp_path.rglob("escaped*"))


def test_offline_the_cache_is_all_there_is(hub, monkeypatch):
    from huggingface_hub import constants

    added(hub)
    online = kvcalc.load("org/tiny", hub=True)
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = kvcalc.load("org/tiny", hub=True)
    assert (model.groups, model.source) == (online.groups, online.source)
    assert model.notes == (f"read from the cache of the Hub: org/tiny at commit {COMMIT}",)
    assert kvcalc.load(f"org/tiny@{COMMIT}", hub=True).source == model.source
    for name in ("org/other", "org/tiny@v1", f"org/tiny@{OTHER}"):
        with pytest.raises(kvcalc.UnknownNameError, match="is not in the cache, and HF_HUB_OFFLINE is set"):
            kvcalc.load(name, hub=True)
    assert hub.requests == []


# The environment ------------------------------------------------------------------------------------------------------


def run_cli(line: str, **environment: str) -> subprocess.CompletedProcess:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    command = [sys.executable, "-m", "kvcalc", *line.split()]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=own | environment, timeout=60)


def test_variables_of_the_library_are_honoured(hub, tmp_path):
    added(hub)
    hub.private.add("org/tiny")
    cache = tmp_path / "another"
    here = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(cache), "HF_HOME": str(tmp_path / "home")}
    refused = run_cli("size org/tiny --hub", **here)
    assert refused.returncode == 2
    assert refused.stderr == (
        "org/tiny: no such repository, or it is private\nhelp: check the name; for a private one set HF_TOKEN\n"
    )
    found = run_cli("size org/tiny --hub", **here, HF_TOKEN="hf_right")
    assert found.returncode == 0, found.stderr
    assert "hf_right" not in found.stdout + found.stderr
    assert (cache / "models--org--tiny" / "refs" / "main").read_text() == COMMIT
    hub.requests.clear()
    offline = run_cli("size org/tiny --hub", **here, HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr
    assert hub.requests == []


def test_a_token_that_was_stored_is_sent_and_only_to_the_hub(hub, tmp_path):
    added(hub)
    home = tmp_path / "home"
    home.mkdir()
    (home / "token").write_text("hf_right")
    run_cli("size org/tiny --hub", HF_ENDPOINT=hub.endpoint, HF_HOME=str(home))
    assert {request.authorization for request in hub.requests if request.host == "hub"} == {"Bearer hf_right"}
    assert {request.authorization for request in hub.requests if request.host == "store"} == {""}


# Everywhere that a model is named -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "size org/tiny --hub",
        "size --preset org/tiny --hub",
        "size --model org/tiny --hub",
        "compare org/tiny r1 --hub --tokens 1K",
        "compare --model org/tiny --hub --tokens 1K --variants mha",
        "fit org/tiny --hub --gpu h100",
        "presets new org/tiny --hub",
        "verify org/tiny --hub --tokens 10 --device meta",
    ],
)
def test_the_flag_holds_in_every_command(hub, cli, line):
    added(hub)
    added(hub, name="deepseek-ai/DeepSeek-R1")
    out = cli(line)
    assert out.code == 0, out.stderr
    assert "org/tiny" in out.stdout
    assert COMMIT in out.stdout.replace("\n", "").replace(" ", "")


def test_the_flag_holds_for_a_log(hub, cli, tmp_path):
    added(hub)
    log = tmp_path / "vllm.log"
    log.write_text("INFO 09-21 21:25:36 [kv_cache_utils.py:864] GPU KV cache size: 1,000 tokens\n")
    cli(["explain-log", str(log), "--model", "org/tiny", "--hub"])
    assert f"{RESOLVE}/config.json" in hub.paths


def test_the_flag_of_check_holds_for_all_plans(hub, cli, tmp_path):
    added(hub)
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "deployments:\n"
        "  - {name: one, model: org/tiny, tokens: 1K, gpu: h100}\n"
        "  - {name: two, args: vllm serve org/tiny --max-model-len 1K, gpu: h100}\n"
    )
    out = cli(["check", str(plan), "--hub", "--format", "json"])
    assert out.code == 0, out.stderr
    assert out.stdout.count(f"org/tiny at {COMMIT}, model.safetensors") == 2
    assert hub.paths.count("/api/models/org/tiny/revision/main") <= 2
    assert cli(["check", str(plan)]).code == 2
