"""What `--format json` prints and `to_dict()` returns, field by field, as JSON Schemas.

A document has these fields and no others; fields with `absent(...)` are optional. Bytes, tokens and counts are
integers. Names chosen by an engine (its settings, what it resolved) are any mapping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from kvcalc.report.versions import VERSIONS

Schema: TypeAlias = dict[str, Any]
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
NAMED: Schema = {"type": "object"}
"""A mapping with names of an engine, a model or a method."""
ANY: Schema = {}
_ABSENT = "x-absent"


def fields(**named: Schema) -> Schema:
    """An object with these fields."""
    properties = {name: {k: v for k, v in rule.items() if k != _ABSENT} for name, rule in named.items()}
    required = [name for name, rule in named.items() if _ABSENT not in rule]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def absent(rule: Schema) -> Schema:
    """An optional field."""
    return {**rule, _ABSENT: True}


def maybe(rule: Schema) -> Schema:
    """The same, or null."""
    return {**rule, "type": [rule["type"], "null"]}


def many(rule: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": rule}


def all_of(rule: Schema, *names: str) -> dict[str, Schema]:
    """Fields that one rule holds for."""
    return dict.fromkeys(names, rule)


def _document(kind: str, /, **named: Schema) -> Schema:
    return fields(schema={"const": f"{kind}/{VERSIONS[kind]}"}, **named)


_WORKLOAD = fields(tokens=COUNT, sequences=COUNT, kv_dtype=TEXT)
_ASKED_OF_DEPLOYMENT = fields(
    tokens=COUNT,
    sequences=COUNT,
    kv_dtype=TEXT,
    **all_of(absent(TEXT), "prompt", "output", "context", "prefix", "active"),
    **all_of(absent(NUMBER), "quantile", "share"),
)
"""Including the workload's description, if requests differ in length."""
_ENGINE = {"engine": TEXT, "engine_version": absent(TEXT)}
_OF_MODEL = {"model": TEXT, **_ENGINE}
_NOTES = many(TEXT)
_LEFT_OUT = many(fields(label=TEXT, reason=TEXT))


_TIERS = absent(
    many(
        fields(
            name=TEXT,
            medium=TEXT,
            rank_bytes=maybe(COUNT),
            gpus_of_node=COUNT,
            node_bytes=maybe(COUNT),
            at_most=FLAG,
            words=TEXT,
        )
    )
)


def _size() -> Schema:
    tensor = fields(
        name=TEXT,
        dims=NAMED,
        dtype=TEXT,
        slots=COUNT,
        slot_rule=TEXT,
        saturates_at=maybe(COUNT),
        **all_of(COUNT, "bytes_per_slot", "bytes", "storage_bytes"),
    )
    group = fields(name=TEXT, attention=TEXT, num_layers=COUNT, layers=many(COUNT), bytes=COUNT, tensors=many(tensor))
    rank = fields(
        **all_of(COUNT, "rank", "tp_rank", "pp_rank", "dp_rank"),
        layers=many(COUNT),
        sequences=COUNT,
        bytes=COUNT,
        tensors=NAMED,
    )
    return _document(
        "size",
        model=TEXT,
        workload=_WORKLOAD,
        **_ENGINE,
        engine_settings=NAMED,
        **all_of(COUNT, "total_bytes", "bytes_per_sequence", "storage_bytes"),
        bytes_per_token=INTEGER,
        next_token_bytes=INTEGER,
        growth=fields(bytes=INTEGER, tokens=COUNT),
        later_growth=many(fields(from_tokens=COUNT, bytes=INTEGER, tokens=COUNT)),
        **all_of(COUNT, "fixed_bytes_per_sequence", "saturated_bytes_per_sequence", "growing_bytes_per_sequence"),
        policy=TEXT,
        other_policies=NAMED,
        notes=_NOTES,
        model_type=TEXT,
        source=TEXT,
        groups=many(group),
        shares_context=absent(FLAG),
        **all_of(absent(COUNT), "copies", "prefill_peak_bytes", "score_workspace_bytes"),
        parallel=absent(fields(tp=COUNT, pp=COUNT, dp=COUNT, dcp=absent(COUNT))),
        rank_bytes_sum=absent(COUNT),
        per_rank=absent(many(rank)),
        tiers=_TIERS,
        layers=absent(many(fields(layer=COUNT, group=TEXT, attention=TEXT, slots=COUNT, bytes=COUNT))),
        formulas=absent(many(TEXT)),
        origins=absent(many(fields(group=TEXT, field=TEXT, value=ANY, origin=TEXT))),
        methods=absent(many(NAMED)),
    )


def _compare() -> Schema:
    row = fields(label=TEXT, as_built=FLAG, made_of=TEXT, ratios=many(maybe(NUMBER)), reports=many(_size()))
    return _document("compare", title=TEXT, baseline=TEXT, notes=_NOTES, rows=many(row), left_out=_LEFT_OUT)


def _methods() -> Schema:
    row = fields(
        method=TEXT,
        tokens=COUNT,
        kind=TEXT,
        **all_of(
            COUNT, "steady_bytes", "prefill_peak_bytes", "score_workspace_bytes", "decode_peak_bytes", "step_copy_bytes"
        ),
        ratio=maybe(NUMBER),
        state=TEXT,
        **all_of(FLAG, "flash_attention", "retraining", "per_head_paging"),
        **all_of(TEXT, "caveat", "formula", "source"),
        report=_size(),
    )
    return _document("methods", title=TEXT, notes=_NOTES, rows=many(row), left_out=_LEFT_OUT)


def _fit() -> Schema:
    planned = fields(
        **all_of(TEXT, "model", "engine", "version", "gpu", "parallel"),
        engine_settings=NAMED,
        available_bytes=many(COUNT),
        allocated_bytes=many(COUNT),
        tokens=COUNT,
        resolved=NAMED,
        notes=_NOTES,
        bytes_per_block=absent(many(COUNT)),
        num_blocks=absent(COUNT),
        max_model_len=absent(COUNT),
        max_concurrency=absent(NUMBER),
        blocks_per_request=absent(COUNT),
        request_bytes=absent(many(COUNT)),
        block_size=absent(COUNT),
        groups=absent(many(NAMED)),
        stages=absent(many(many(NAMED))),
        host=absent(many(many(NAMED))),
        reserved_bytes=absent(COUNT),
        max_requests=absent(maybe(COUNT)),
        log_line=absent(TEXT),
        log_lines=absent(many(TEXT)),
    )
    other = fields(
        model=TEXT,
        **all_of(COUNT, "tokens", "sequences", "weights_bytes"),
        beside_bytes=many(COUNT),
        **all_of(COUNT, "cache_bytes", "least_bytes", "most_bytes"),
    )
    at_best = fields(
        beside_bytes=many(COUNT),
        words=TEXT,
        terms=many(fields(words=TEXT, low_bytes=INTEGER, high_bytes=INTEGER, source=TEXT)),
        cache_bytes=INTEGER,
        max_tokens=maybe(COUNT),
        max_sequences=maybe(COUNT),
        fits=maybe(FLAG),
    )
    return _document(
        "fit",
        **_OF_MODEL,
        engine_settings=NAMED,
        gpu=fields(name=TEXT, memory_bytes=COUNT, memory_from=TEXT, source=TEXT),
        gpus=COUNT,
        parallel=TEXT,
        workload=fields(tokens=maybe(COUNT), sequences=COUNT, kv_dtype=TEXT),
        share=TEXT,
        taken_bytes=COUNT,
        weights_bytes=COUNT,
        weights_source=TEXT,
        weights_estimate=FLAG,
        others=absent(many(other)),
        estimate=FLAG,
        reserve_bytes=COUNT,
        cache_bytes=INTEGER,
        needed_bytes=maybe(many(COUNT)),
        free_bytes=maybe(many(INTEGER)),
        untaken_bytes=INTEGER,
        fits=maybe(FLAG),
        **all_of(maybe(COUNT), "max_tokens", "max_context", "max_sequences", "num_blocks"),
        block_bytes=many(COUNT),
        blocks_per_request=maybe(COUNT),
        fewest_gpus=maybe(COUNT),
        fewest_gpus_layout=TEXT,
        fewest_gpus_by_tp=maybe(COUNT),
        usual_gpus=maybe(COUNT),
        usual_gpus_layout=TEXT,
        binds=TEXT,
        at_best=maybe(at_best),
        planned=maybe(planned),
        tiers=_TIERS,
        layouts=absent(_choices()),
        notes=_NOTES,
    )


def _choices() -> Schema:
    choice = fields(
        gpu=TEXT,
        num_gpus=COUNT,
        **all_of(TEXT, "parallel", "weights_format", "weights_repository"),
        weights_estimate=FLAG,
        kv_dtype=TEXT,
        **all_of(maybe(COUNT), "max_sequences", "max_sequences_at_best", "max_context", "max_context_at_best"),
        fits=FLAG,
        estimate=FLAG,
        weights_bytes=COUNT,
        beside_bytes=many(COUNT),
        cache_bytes=INTEGER,
        copies=maybe(NUMBER),
        limited_by=TEXT,
        degrees=NAMED,
    )
    return _document(
        "choices",
        **_OF_MODEL,
        tokens=COUNT,
        sequences=COUNT,
        fits=FLAG,
        weights_format=TEXT,
        kv_dtype=TEXT,
        choices=many(choice),
        notes=_NOTES,
    )


_NOTE = fields(where=TEXT, about=TEXT, why=TEXT, help=absent(TEXT))
_FINDING = fields(
    deployment=TEXT,
    fits=FLAG,
    model=TEXT,
    **_ENGINE,
    parallel=TEXT,
    workload=_ASKED_OF_DEPLOYMENT,
    needed_bytes=COUNT,
    available_bytes=INTEGER,
    missing_bytes=COUNT,
    free_bytes=COUNT,
    limit=TEXT,
    max_tokens=maybe(COUNT),
    max_sequences=maybe(COUNT),
    tiers=_TIERS,
    host=absent(fields(needed_bytes=COUNT, available_bytes=maybe(COUNT), missing_bytes=COUNT)),
    file=TEXT,
    line=COUNT,
    message=TEXT,
    notes=_NOTES,
)


def _fleet() -> Schema:
    totals = fields(fits=FLAG, deployments=COUNT, failing=COUNT, refused=COUNT)
    return _document("fleet", findings=many({"anyOf": [_FINDING, _NOTE]}), totals=totals)


def _check() -> Schema:
    return _document(
        "check", fits=FLAG, findings=many(_FINDING), refused=absent(many(_NOTE)), skipped=absent(many(_NOTE))
    )


def _diff() -> Schema:
    cause = fields(field=TEXT, was=maybe(TEXT), now=maybe(TEXT), file=TEXT, line=COUNT)
    change = fields(
        **all_of(TEXT, "deployment", "file", "verdict"),
        fails=FLAG,
        growth=maybe(NUMBER),
        was=maybe(_FINDING),
        now=maybe(_FINDING),
        causes=many(cause),
        refused=absent(many(_NOTE)),
    )
    notes = many(_NOTE)
    return _document(
        "diff", was=TEXT, now=TEXT, fails=FLAG, unchanged=COUNT, changes=many(change), refused=notes, passed_over=notes
    )


def _explain() -> Schema:
    compared = fields(what=TEXT, logged=TEXT, predicted=TEXT, agrees=FLAG, line=COUNT, decides=FLAG, judged=FLAG)
    request = fields(tokens=COUNT, requests=COUNT)
    room = fields(used=ANY, share=ANY, further_requests=many(request), longest=COUNT)
    return _document(
        "explain",
        **all_of(TEXT, "file", "model", "engine"),
        agrees=FLAG,
        outcome={"enum": ["agrees", "differs", "explained", "undecided"]},
        settings=NAMED,
        compared=many(compared),
        explanations=many(TEXT),
        settings_tried=COUNT,
        verdict=TEXT,
        refusal=absent(TEXT),
        needed=absent(TEXT),
        available=absent(TEXT),
        ways=absent(many(fields(flags=TEXT, gives=TEXT))),
        room=absent(room),
        notes=_NOTES,
    )


def _decode() -> Schema:
    experts = fields(
        **all_of(COUNT, "on_gpu", "in_all", "per_token", "least", "tokens"),
        expected=NUMBER,
    )
    tensor = fields(group=TEXT, tensor=TEXT, layers=COUNT, reads=TEXT, held_bytes=COUNT, read_bytes=COUNT)
    part = fields(part=TEXT, **all_of(COUNT, "held_bytes", "least_bytes", "expected_bytes"), reads=TEXT)
    counts = (
        "held_bytes",
        "cache_bytes",
        "weights_bytes",
        "expected_weights_bytes",
        "step_bytes",
        "expected_step_bytes",
    )
    return _document(
        "decode",
        model=TEXT,
        **_ENGINE,
        kv_dtype=TEXT,
        tokens=COUNT,
        sequences=COUNT,
        parallel=TEXT,
        **dict.fromkeys(counts, COUNT),
        experts=maybe(experts),
        costs_more_from_tokens=maybe(COUNT),
        device=TEXT,
        bandwidth_bytes_per_second=maybe(COUNT),
        at_least_seconds=maybe(NUMBER),
        expected_at_least_seconds=maybe(NUMBER),
        cache=many(tensor),
        weights=many(part),
        cache_bytes_by_tokens=many(fields(tokens=COUNT, bytes=COUNT)),
        notes=_NOTES,
    )


def _transfer() -> Schema:
    return _document(
        "transfer",
        **_OF_MODEL,
        kv_dtype=TEXT,
        tokens=COUNT,
        prefill=TEXT,
        decode=TEXT,
        **all_of(COUNT, "request_bytes", "sent_bytes", "busiest_link_bytes"),
        link_bytes_per_second=maybe(COUNT),
        seconds=maybe(NUMBER),
        seconds_if_shared=maybe(NUMBER),
        prefill_tokens_per_second=maybe(COUNT),
        in_flight=COUNT,
        staged_bytes=COUNT,
        pairs=many(fields(prefill_rank=COUNT, decode_rank=COUNT, bytes=COUNT)),
        notes=_NOTES,
    )


def _weights() -> Schema:
    part = fields(name=TEXT, meaning=TEXT, tensors=maybe(COUNT), parameters=maybe(COUNT), bytes=maybe(COUNT))
    verified = fields(equal=FLAG, parameters=COUNT, source=TEXT, differences=many(TEXT))
    return _document(
        "weights",
        model=TEXT,
        weights_bytes=COUNT,
        weights_source=TEXT,
        estimate=FLAG,
        parameters=maybe(COUNT),
        loaded_bytes=COUNT,
        parts=many(part),
        parallel=TEXT,
        rank_bytes=maybe(COUNT),
        verified=absent(verified),
        notes=_NOTES,
    )


def _replicas() -> Schema:
    fleet = fields(
        **all_of(TEXT, "gpu", "replica", "binds"),
        **all_of(COUNT, "replica_gpus", "replica_users", "cache_bytes", "held"),
        **all_of(maybe(COUNT), "replicas", "gpus"),
        **all_of(NUMBER, "share", "share_with_one_more"),
    )
    step = fields(gpus=COUNT, used=COUNT, gpu=TEXT, parallel=TEXT, users=COUNT, share=NUMBER)
    return _document(
        "replicas",
        model=TEXT,
        engine=TEXT,
        engine_version=absent(TEXT),
        workload=NAMED,
        quantile=NUMBER,
        users=COUNT,
        most_gpus=maybe(COUNT),
        fits=FLAG,
        fleets=many(fleet),
        steps=many(step),
        notes=_NOTES,
    )


def _fits() -> Schema:
    layouts = {"anyOf": [answer_schema("replicas"), answer_schema("choices")]}
    fit = fields(trace=maybe(TEXT), layouts=layouts)
    return _document("fits", fits=many(fit), refused=many(_NOTE), notes=_NOTES)


def _traffic() -> Schema:
    shares = dict.fromkeys(
        ("quantile", "mean_blocks", "mean_tokens", "expected_blocks", "expected_bytes", "expected_tokens"), NUMBER
    )
    blocks = ("num_blocks", "block_bytes", "prefix_blocks", "most_blocks", "first_blocks")
    counts = dict.fromkeys((*blocks, "users"), COUNT)
    return _document(
        "traffic",
        **all_of(TEXT, "model", "engine", "engine_version"),
        workload=NAMED,
        unit=TEXT,
        **shares,
        **counts,
        share_of_one_more=maybe(NUMBER),
        user_blocks=NAMED,
        all_blocks=NAMED,
        user_tokens=NAMED,
        **dict.fromkeys(("held_blocks", "held_tokens", "held_bytes"), NAMED),
        users_at_most=COUNT,
        users_at_mean=COUNT,
        uses=many(fields(name=TEXT, num_units=COUNT, unit_bytes=COUNT, mean=NUMBER, first=COUNT, users=COUNT)),
        balance=absent(fields(states=COUNT, tokens=COUNT, users=COUNT, setting=NAMED)),
        distribution=many(fields(share=NUMBER, blocks=COUNT)),
        by_users=many(fields(users=COUNT, blocks=maybe(COUNT), at_mean=COUNT, at_most=COUNT)),
        notes=_NOTES,
    )


def _replay() -> Schema:
    step = fields(
        **all_of(COUNT, "step", "used_blocks", "running", "waiting"),
        preempted=many(TEXT),
        scheduled_tokens=COUNT,
        used_after_update=COUNT,
    )
    by_share = many(fields(share=NUMBER, blocks=COUNT))
    return _document("replay", **_replayed(), used_blocks_by_share=by_share, steps=absent(many(step)))


def _replays() -> Schema:
    runs = many(fields(trace=TEXT, **_replayed()))
    return _document("replays", replays=runs, refused=many(_NOTE), notes=_NOTES)


def _replayed() -> dict[str, Schema]:
    """What a trace came to."""
    quantiles = ("used_blocks", "used_bytes", "wait_steps", "request_steps")
    return dict(
        **all_of(TEXT, "model", "engine", "engine_version"),
        engine_settings=NAMED,
        scheduler=NAMED,
        num_blocks=COUNT,
        block_bytes=COUNT,
        totals=NAMED,
        hit_rate=NUMBER,
        **dict.fromkeys(quantiles, NAMED),
        mean_used_blocks=NUMBER,
        mean_wait_steps=NUMBER,
        step_seconds=maybe(NUMBER),
        **dict.fromkeys(("hit_rate_by_blocks", "hit_rate_by_host_blocks"), many(many(NUMBER))),
        notes=_NOTES,
    )


def _vectors() -> Schema:
    verdicts = dict.fromkeys(("agreed", "disagreed", "refused", "unanswered"), COUNT)
    return _document(
        "vectors",
        command=TEXT,
        agrees=FLAG,
        **verdicts,
        engines=many(fields(engine=TEXT, version=TEXT, **verdicts)),
        others=many(fields(id=TEXT, engine=TEXT, version=TEXT, verdict=TEXT, why=TEXT)),
    )


def _plot() -> Schema:
    series = fields(
        label=TEXT,
        **all_of(TEXT, "model", "engine", "engine_version", "kv_dtype", "method"),
        sequences=absent(COUNT),
        gpu=absent(TEXT),
        gpus=absent(COUNT),
        parallel=absent(TEXT),
        points=many(fields(tokens=COUNT, bytes=absent(COUNT), users=absent(COUNT))),
        growth_changes_at=many(COUNT),
        notes=_NOTES,
    )
    return _document(
        "plot",
        title=TEXT,
        x=TEXT,
        y={"enum": ["bytes", "users"]},
        series=many(series),
        levels=many(fields(label=TEXT, bytes=COUNT)),
        notes=_NOTES,
    )


def _report() -> Schema:
    part = fields(title=TEXT, command=TEXT, document=maybe(NAMED), remark=TEXT)
    return _document(
        "report",
        title=TEXT,
        command=TEXT,
        check=NAMED,
        deployments=many(fields(deployment=TEXT, parts=many(part))),
        left_out=COUNT,
    )


def _deployments() -> Schema:
    deployed = fields(
        **all_of(TEXT, "name", "engine", "where"),
        **all_of(maybe(TEXT), "model", "gpu", "role"),
        **all_of(maybe(COUNT), "gpus", "replicas"),
        args=NAMED,
        version=absent(TEXT),
        replicas_max=absent(COUNT),
    )
    notes = many(_NOTE)
    return _document("deployments", deployments=many(deployed), refused=notes, told=notes, skipped=absent(notes))


def _model() -> Schema:
    layers = fields(num_layers=COUNT, group=TEXT, attention=TEXT)
    return _document(
        "model",
        **all_of(TEXT, "name", "model_type", "source"),
        **all_of(many(TEXT), "aliases", "kinds"),
        **all_of(maybe(COUNT), "max_model_len", "parameters", "first_token_bytes", "bytes_per_token"),
        layers=many(layers),
    )


def _gpu() -> Schema:
    return _document(
        "gpu",
        **all_of(TEXT, "name", "vendor", "kind", "memory_from", "memory_source", "specs_source", "note"),
        **all_of(many(TEXT), "aliases", "remarks"),
        **all_of(maybe(TEXT), "compute_capability", "architecture", "interconnect"),
        **all_of(maybe(COUNT), "nvidia_smi_mib", "windows_mib", "newer_macos_bytes", "bandwidth_mb_s"),
        **all_of(maybe(COUNT), "bf16_gflops", "fp8_gflops"),
        memory_bytes=COUNT,
        seen_mib=maybe(many(COUNT)),
        ecc=maybe(NAMED),
    )


def _engine() -> Schema:
    rule = fields(**all_of(TEXT, "name", "what", "old", "source"), since=NAMED)
    return _document(
        "engine",
        **all_of(TEXT, "name", "title", "verified", "answered"),
        versions=many(TEXT),
        plans=FLAG,
        settings=NAMED,
        rules=many(rule),
    )


def _method() -> Schema:
    return _document(
        "method",
        **all_of(TEXT, "name", "kind", "title", "source", "formula", "step_copy", "caveat", "description"),
        **all_of(FLAG, "flash_attention", "retraining", "per_head_paging"),
        **all_of(NAMED, "parameters", "meanings"),
        remarks=many(TEXT),
    )


ANSWERS: Mapping[str, tuple[str, Callable[[], Schema]]] = {
    "size": ("Size of a cache: `kvcalc size`; a list for several token counts.", _size),
    "compare": ("Variants of a model, or several models: `kvcalc compare`.", _compare),
    "methods": ("A model under methods: `kvcalc compare --methods`.", _methods),
    "fit": ("What fits on GPUs: `kvcalc fit`.", _fit),
    "fits": ("The best layout of many models, or traces: `kvcalc fit r1,llama3-8b`.", _fits),
    "choices": ("Candidate layouts: `kvcalc fit` with several GPUs or dtypes.", _choices),
    "replicas": ("Replicas that serve a workload: `kvcalc fit --workload`.", _replicas),
    "fleet": ("Verdicts on a stream of deployments, in order: `kvcalc check FLEET.jsonl`.", _fleet),
    "check": ("Verdicts on deployments: `kvcalc check`.", _check),
    "diff": ("What changed between two states of deployments: `kvcalc diff`.", _diff),
    "explain": ("A log, an error or a server next to the prediction: `kvcalc explain`.", _explain),
    "decode": ("What a decode step reads: `kvcalc decode`.", _decode),
    "transfer": ("What a request sends from prefill to decode: `kvcalc transfer`.", _transfer),
    "weights": ("Size of the weights: `kvcalc weights`.", _weights),
    "traffic": ("Users with requests of different lengths: `kvcalc traffic`.", _traffic),
    "vectors": ("An estimator checked against measurements: `kvcalc vectors run`.", _vectors),
    "report": ("A page about deployments: `kvcalc report`.", _report),
    "plot": ("Curves over the context: `kvcalc plot`.", _plot),
    "deployments": ("What files start: `kvcalc deployments`.", _deployments),
    "model": ("A shipped model: `kvcalc presets list`, one of a list.", _model),
    "gpu": ("A device: `kvcalc gpus`, one of a list, or `kvcalc gpus NAME`.", _gpu),
    "engine": ("An engine: `kvcalc engines list`, one of a list, or `kvcalc engines show NAME`.", _engine),
    "method": ("A method: `kvcalc methods list`, one of a list, or `kvcalc methods show NAME`.", _method),
    "replay": ("A trace replayed by a scheduler: `kvcalc replay`.", _replay),
    "replays": ("Several traces, or one for several models: `kvcalc replay`.", _replays),
}
"""By kind: description and schema."""


def answer_schema(kind: str) -> Schema:
    """The schema of a kind of answer."""
    words, rules = ANSWERS[kind]
    return {"title": f"kvcalc {kind}", "description": words, **rules()}
