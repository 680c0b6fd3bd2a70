"""The schema of a plan file, as printed by `kvcalc schema plan`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Tokens = Annotated[
    int | str, Field(description="Tokens of one sequence: 131072, 128K (= 131,072) or 128k (= 128,000).")
]
Bytes = Annotated[int | str, Field(description="Bytes: 80GB (10^9 each), 80GiB (2^30 each), or a plain number.")]
Lengths = Annotated[
    int | str | dict[int | str, int | str],
    Field(description="8K, p50=1K,p95=8K,max=32K, or a histogram: {1K: 50, 8K: 30} (tokens: weight)."),
]


class WorkloadEntry(BaseModel):
    """Requests that differ in length: `trace`, or `prompt` and `output`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    trace: str | None = Field(
        None, description="File of requests (CSV or JSON lines, as for kvcalc replay), relative to this file."
    )
    prompt: Lengths | None = Field(None, description="Lengths of prompts.")
    output: Lengths | None = Field(
        None, description="Lengths of outputs; if not given, users just hold their contexts."
    )
    quantile: float | int | str = Field(99, description="Required percentage of the time without preemption.")
    shared_prefix: Lengths | None = Field(
        None, description="Shared prefix of prompts, in tokens; or by groups of users: {2K: 60, 8K: 30, 0: 10}."
    )
    prefixes: int = Field(1, description="Number of different prefixes per length.")
    active: float | int | str = Field(
        100, description="Percentage of the time that a user's request runs; otherwise the session is idle and cached."
    )


class DeploymentEntry(BaseModel):
    """One deployment: a model, a workload, and either `budget` or `gpu` (or `memory`) with `weights`."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    name: str = Field(
        description="Name of the deployment, unique in its file.", min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$"
    )
    model: str | None = Field(
        None,
        description="A preset's name, or the path of a preset YAML or config.json, relative to this file; default: the "
        "model in args.",
    )
    attention: str | None = Field(None, description="Replace the attention: mha, mqa, gqa:8, mla:512+64, mla-naive.")
    tokens: Tokens | None = Field(
        None, description="Tokens of one sequence: 131072, 128K (= 131,072) or 128k (= 128,000); default: from args."
    )
    workload: str | WorkloadEntry | None = Field(
        None, description="Requests that differ in length, instead of tokens: a trace's path, or their distribution."
    )
    sequences: int | None = Field(None, description="Sequences cached at the same time; default: 1.")
    concurrency: int | None = Field(None, description="The same: concurrent users at this context.")
    kv_dtype: str = Field("bf16", description="Format of the cache: bf16, fp8, int8, int4 ...")
    engine: str | None = Field(
        None, description="Engine that allocates the cache, such as vllm or vllm@0.33; default: from args, else ideal."
    )
    engine_settings: dict[str, Any] = Field(default_factory=dict, description="Settings, by the engine's own names.")
    args: str | list[str] | None = Field(
        None,
        description="The engine's own command line: vllm serve MODEL --tensor-parallel-size 8 ..., or a list of words.",
    )
    from_: str | None = Field(
        None,
        alias="from",
        description="A file that starts it, relative to this one: manifest, compose file, Helm values, script, unit; "
        "if it starts several engines, the one with this name.",
    )
    budget: Bytes | None = Field(None, description="Bytes for the cache on each GPU.")
    gpu: str | int | None = Field(None, description="GPU, by its name in `kvcalc gpus`.")
    memory: Bytes | None = Field(None, description="Memory of an unlisted device, or to override the GPU's: 64GB.")
    gpus: int | None = Field(None, description="Total GPUs: tp x pp x dp.")
    tp: int | None = Field(None, description="Tensor-parallel ranks, which divide the heads.")
    pp: int | None = Field(None, description="Pipeline stages, which divide the layers.")
    dp: int | None = Field(None, description="Data-parallel replicas, which divide the sequences.")
    dcp: int | None = Field(None, description="Decode-context-parallel ranks, which divide the tokens.")
    ep: int | None = Field(None, description="Ranks, across replicas, that divide the routed experts; default: tp.")
    gpu_memory_utilization: float | int | None = Field(
        None,
        description="Share of the GPU's memory to use; default: the engine's, or all of it.",
    )
    weights: Bytes | None = Field(
        None,
        description="Bytes of the model's weights, `70B x 4.5bit`, or the path of safetensors (index, file, folder) or "
        "GGUF, relative to this file; default: the model's own files, as published, or counted.",
    )
    weights_dtype: str | None = Field(None, description="Size the weights in this format: fp8, int4, q4_k_m ...")
    reserve: Bytes | None = Field(None, description="Bytes kept on each GPU for activations, CUDA graphs and the rest.")
    host_memory: Bytes | None = Field(
        None, description="Host memory of each node, for caches that engines keep there (HiCache, offloading)."
    )
    gpus_per_node: int | None = Field(None, description="GPUs per node; default: all of the deployment, up to 8.")


class PlanFile(BaseModel):
    """A capacity plan: `kvcalc check` says whether each deployment's cache fits."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Literal[1] = 1
    deployments: list[DeploymentEntry] = Field(min_length=1, max_length=10_000)
