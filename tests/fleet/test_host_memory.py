"""`check` counts what engines keep on the host against the memory that a plan gives each node."""

from __future__ import annotations

import pytest

import kvcalc
from kvcalc.errors import InvalidValueError
from kvcalc.report.tiers import DISK, HOST
from kvcalc.units import GIB

BASE = {"name": "chat", "tokens": "32K", "gpu": "h100", "reserve": "4GiB"}
SERVER = {**BASE, "args": "llama-server -hf unsloth/Qwen3.5-27B-GGUF -c 32768", "weights": "16GB"}
OFFLOADS = {**BASE, "args": "vllm serve meta-llama/Llama-3.1-8B --kv-offloading-size 64 --tensor-parallel-size 2"}
CASES = {
    # host memory: needed on a node, and whether 64 GiB hold it
    "checkpoints and prompts of llama-server": (SERVER, 4 * 32 * 156_893_184 + 8 * GIB, True),
    "fewer": ({**SERVER, "args": f"{SERVER['args']} --ctx-checkpoints 4 --cache-ram 0"}, 4 * 4 * 156_893_184, True),
    "by a variable": (
        {**SERVER, "args": f"LLAMA_ARG_CACHE_RAM=100000 {SERVER['args']} -ctxcp 0"},
        100_000 * 2**20,
        False,
    ),
    "offloading of vLLM": (OFFLOADS, 64 * GIB, True),
    "of each replica": (
        {**OFFLOADS, "args": f"{OFFLOADS['args']} --data-parallel-size 2", "sequences": 2},
        128 * GIB,
        False,
    ),
    "LMCache of each rank": (
        {
            **BASE,
            "args": "LMCACHE_MAX_LOCAL_CPU_SIZE=40 vllm serve meta-llama/Llama-3.1-8B -tp 2 "
            """--kv-transfer-config '{"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}'""",
        },
        80 * GIB,
        False,
    ),
    "HiCache by its size": (
        {
            **BASE,
            "args": "python -m sglang.launch_server --model meta-llama/Llama-3.1-8B --tp 4 --mem-fraction-static 0.85 "
            "--enable-hierarchical-cache --hicache-size 10 --page-size 1",
        },
        4 * (10 * 10**9 // 32_768 + 1) * 32_768,
        True,
    ),
    "host cache of TensorRT-LLM": (
        {
            **BASE,
            "args": f"""trtllm-serve meta-llama/Llama-3.1-8B --tp_size 2 --kv_cache_config '{{"host_cache_size": {2**35}}}'""",
        },
        2 * 2**35,
        True,
    ),
    "weights that are kept there": (
        {**BASE, "args": "vllm serve meta-llama/Llama-3.1-8B --cpu-offload-gb 10 -tp 2"},
        20 * GIB,
        True,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_kept_on_the_host_is_counted_against_it(case):
    entry, needed, holds = CASES[case]
    (finding,) = kvcalc.check({**entry, "host_memory": "64GiB"}).findings
    data = finding.to_dict()["host"]
    assert data["needed_bytes"] == needed
    assert finding.fits is holds
    assert data["missing_bytes"] == max(0, needed - 64 * GIB)
    assert finding.verdict == ("fits" if holds else "HOST TOO SMALL")
    assert ("short" in finding.message) is not holds


def test_without_a_host_it_is_said():
    (finding,) = kvcalc.check(SERVER).findings
    assert finding.fits
    assert [note for note in finding.notes if note.startswith("in host memory, context checkpoints: at most")]


def test_several_nodes_have_a_size():
    many = {**OFFLOADS, "tp": 2, "dp": 8, "sequences": 8, "host_memory": "200GiB"}
    with pytest.raises(InvalidValueError, match=r"16 GPUs need several nodes"):
        kvcalc.check(many)
    (finding,) = kvcalc.check({**many, "gpus_per_node": 4}).findings
    assert finding.to_dict()["host"]["needed_bytes"] == 128 * GIB


def test_fit_and_size_show_it_apart(cli):
    shown = cli("fit llama-3.1-8b --gpu h100 --engine sglang --engine-set enable_hierarchical_cache=1 -t 8K").stdout
    assert "HiCache: at most" in shown
    assert "hicache_ratio 2, its default" in shown
    shown = cli("size qwen3.5-27b 32K --engine llama_cpp --engine-set defaults=server").stdout
    assert "4 slots x 32 of 156,893,184 bytes" in shown


POD = """
apiVersion: v1
kind: Pod
metadata: {{name: chat}}
spec:
  nodeSelector: {{nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}}
  containers:
    - name: vllm
      image: vllm/vllm-openai:v0.33.0
      args: [--model, meta-llama/Llama-3.1-8B-Instruct, --tensor-parallel-size, "2", {flags}]
      resources:
        limits: {{nvidia.com/gpu: 2, memory: {memory}}}
"""


@pytest.mark.parametrize(
    ("memory", "flags", "verdict"),
    [
        ("64Gi", '--kv-offloading-size, "60"', "fits"),
        ("64Gi", '--kv-offloading-size, "80"', "HOST TOO SMALL"),
        ("64G", '--kv-offloading-size, "60"', "HOST TOO SMALL"),
        ("1Gi", "--enforce-eager", "fits"),
        ("lots", '--kv-offloading-size, "80"', "fits"),
    ],
)
def test_a_container_holds_what_its_limit_allows(tmp_path, memory, flags, verdict):
    path = tmp_path / "pod.yaml"
    path.write_text(POD.format(memory=memory, flags=flags))
    report = kvcalc.check(str(path))
    assert not report.refused
    (finding,) = report.findings
    assert finding.verdict == verdict
    if verdict != "fits":
        assert "memory limit of its container" in finding.message


LMCACHE = """\
chunk_size: 256
local_cpu: true
max_local_cpu_size: {size}
local_disk: "file:///nvme"
max_local_disk_size: 500.0
remote_url: "redis://:hunter2@cache:6379"
"""
STARTED = (
    "vllm serve meta-llama/Llama-3.1-8B-Instruct -tp 2 --max-model-len 8192 "
    """--kv-transfer-config '{"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}'"""
)


def of_script(tmp_path, words: str, size: object = 40) -> dict[str, int | None]:
    """Bytes on the node by where they are, of a script beside LMCache's file."""
    (tmp_path / "lmcache.yaml").write_text(LMCACHE.format(size=size))
    (tmp_path / "run.sh").write_text(f"{words}\n")
    (finding,) = kvcalc.check(str(tmp_path / "run.sh"), gpu="h100").findings
    assert "hunter2" not in str(finding)
    return {tier.tier.medium: tier.node_bytes for tier in finding.tiers if tier.tier.name == "LMCache"}


def test_lmcaches_file_is_read_where_a_deployment_names_it(tmp_path):
    """LMCache, integration/vllm/utils.py: the file first, and variables over it; each rank takes its own."""
    named = f"LMCACHE_CONFIG_FILE=lmcache.yaml {STARTED}"
    assert of_script(tmp_path, named) == {HOST: 2 * 40 * GIB, DISK: 2 * 500 * GIB}
    assert of_script(tmp_path, f"LMCACHE_MAX_LOCAL_CPU_SIZE=10 {named}")[HOST] == 2 * 10 * GIB
    assert of_script(tmp_path, f"LMCACHE_CONFIG_FILE=/etc/lmcache.yaml {STARTED}") == {HOST: 2 * 5 * GIB}
    sglang = "python -m sglang.launch_server --model meta-llama/Llama-3.1-8B-Instruct --tp 2 --enable-lmcache"
    assert of_script(tmp_path, f"{sglang} --lmcache-config-file lmcache.yaml")[HOST] == 2 * 40 * GIB


def test_lmcaches_file_of_a_config_map_counts_against_its_container(tmp_path):
    path = tmp_path / "pod.yaml"
    path.write_text(MOUNTED)
    (finding,) = kvcalc.check(str(path)).findings
    assert finding.verdict == "HOST TOO SMALL"
    assert finding.to_dict()["host"] == {
        "needed_bytes": 30 * GIB,
        "available_bytes": 20 * GIB,
        "missing_bytes": 10 * GIB,
    }
    assert not [note for note in finding.notes if "LMCACHE_CONFIG_FILE" in note]


MOUNTED = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: lmcache}
data:
  lmcache.yaml: |
    chunk_size: 256
    max_local_cpu_size: 30
---
apiVersion: v1
kind: Pod
metadata: {name: llama}
spec:
  nodeSelector: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}
  containers:
  - name: vllm
    image: vllm/vllm-openai:v0.30.0
    command: [vllm, serve, meta-llama/Llama-3.1-8B-Instruct]
    args: [--max-model-len=8192, --kv-transfer-config, '{"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}']
    env: [{name: LMCACHE_CONFIG_FILE, value: /etc/lmcache/lmcache.yaml}]
    volumeMounts: [{name: lmcache, mountPath: /etc/lmcache}]
    resources: {limits: {nvidia.com/gpu: 1, memory: 20Gi}}
  volumes: [{name: lmcache, configMap: {name: lmcache}}]
"""
