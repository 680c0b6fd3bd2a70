"""The form of a plan file: what each field is, as `kvcalc schema plan` prints it."""

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
        None, description="File of requests, CSV or JSON lines, as kvcalc replay reads them, relative to this one."
    )
    prompt: Lengths | None = Field(None, description="How long prompts are.")
    output: Lengths | None = Field(
        None, description="How long what is generated is; if not given, users just hold their contexts."
    )
    quantile: float | int | str = Field(99, description="Percent of the time in which nothing may be preempted.")
    shared_prefix: Lengths | None = Field(
        None, description="Tokens that prompts begin with; or by groups of users: {2K: 60, 8K: 30, 0: 10}."
    )
    prefixes: int = Field(1, description="How many different prefixes of each length there are.")
    active: float | int | str = Field(
        100, description="Percent of the time that a user's request runs; in the rest its session is idle, and cached."
    )


class DeploymentEntry(BaseModel):
    """One deployment: a model, a workload, and either `budget` or `gpu` (or `memory`) with `weights`."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    name: str = Field(
        description="Name of the deployment, unique in its file.", min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$"
    )
    model: str | None = Field(
        None,
        description="A preset's name, or the path of a preset YAML or config.json, relative to this file; "
        "if not given, the model that args name.",
    )
    attention: str | None = Field(
        None, description="What if it had this attention: mha, mqa, gqa:8, mla:512+64, mla-naive."
    )
    tokens: Tokens | None = Field(
        None, description="Tokens of one sequence: 131072, 128K (= 131,072) or 128k (= 128,000); or as args say."
    )
    workload: str | WorkloadEntry | None = Field(
        None, description="Requests that differ in length, in place of tokens: a trace's path, or what they are like."
    )
    sequences: int | None = Field(None, description="Sequences cached at the same time, 1 if not given.")
    concurrency: int | None = Field(None, description="The same: users at a context of that many tokens.")
    kv_dtype: str = Field("bf16", description="Format of the cache: bf16, fp8, int8, int4 ...")
    engine: str | None = Field(
        None, description="Who allocates the cache, vllm or vllm@0.33: ideal if neither this nor args say."
    )
    engine_settings: dict[str, Any] = Field(
        default_factory=dict, description="Settings, named as that engine names them."
    )
    args: str | list[str] | None = Field(
        None,
        description="The engine's own command line: vllm serve MODEL --tensor-parallel-size 8 ..., or a list of words.",
    )
    from_: str | None = Field(
        None,
        alias="from",
        description="A file that starts it, relative to this one: manifest, compose file, values, script, unit; "
        "of several engines in it the one of this name.",
    )
    budget: Bytes | None = Field(None, description="Bytes that the cache may take on each GPU.")
    gpu: str | int | None = Field(None, description="GPU that holds the cache, as `kvcalc gpus` names it.")
    memory: Bytes | None = Field(None, description="Memory of any other device, or of the GPU as it is known: 64GB.")
    gpus: int | None = Field(None, description="GPUs in all: tp x pp x dp.")
    tp: int | None = Field(None, description="Tensor-parallel ranks, which share heads.")
    pp: int | None = Field(None, description="Pipeline stages, which share layers.")
    dp: int | None = Field(None, description="Data-parallel replicas, which share sequences.")
    dcp: int | None = Field(None, description="Tensor-parallel ranks that share tokens, where the engine does.")
    ep: int | None = Field(None, description="Ranks that share routed experts, of all replicas; as tp if not given.")
    gpu_memory_utilization: float | int | None = Field(
        None,
        description="Share of the GPU's memory in use; if not given, the engine's own, or all of it.",
    )
    weights: Bytes | None = Field(
        None,
        description="Bytes of the model's weights, `70B x 4.5bit`, or the path of what holds them, safetensors (index, "
        "file, folder) or GGUF, relative to this file; default: the model's own files, as published, or counted.",
    )
    weights_dtype: str | None = Field(None, description="Count the weights in this format: fp8, int4, q4_k_m ...")
    reserve: Bytes | None = Field(None, description="Bytes for activations, graphs and everything else on each GPU.")
    host_memory: Bytes | None = Field(
        None, description="Memory of each node's host for caches that engines keep there, HiCache's or offloaded ones."
    )
    gpus_per_node: int | None = Field(
        None, description="GPUs of a node; if not given, all of the deployment, which are then at most 8."
    )


class PlanFile(BaseModel):
    """A capacity plan: `kvcalc check` says of each deployment whether its cache fits."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Literal[1] = 1
    deployments: list[DeploymentEntry] = Field(min_length=1, max_length=10_000)
