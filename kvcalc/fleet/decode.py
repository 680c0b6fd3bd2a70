"""Bytes of cache and weights that one decode step reads, and the time floor set by memory bandwidth.

    bytes of a step = weights used by its tokens + sequences * cache read by attention
    seconds        >= bytes of a step / bandwidth

It is a floor: computation, launches, communication, writes, blocks, padding and repeated reads are not counted. A step
waits for the rank that reads most, and passes the pipeline stages in sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from kvcalc.answers.curves import samples
from kvcalc.answers.decode import Quest, ReadTensor, by_pages, cache_reads, check_pages, remarks
from kvcalc.answers.stored import stored_by_stage
from kvcalc.engines import Engine
from kvcalc.engines.base.footprint import Footprint
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.fleet.on_gpus import OnGpus, check_experts
from kvcalc.fleet.routing import Routing, routing_of
from kvcalc.fleet.weights import (
    EMBEDDING,
    EXPERTS,
    HEAD,
    Weights,
    fewest_kv_heads,
    on_stages,
    share_of_rank,
)
from kvcalc.model.checkpoint import PARTS
from kvcalc.parallel import Parallel, Sharing, rank_models, stages_of
from kvcalc.question import Question
from kvcalc.report.decode import DecodeReport, Experts, TensorReads, WeightReads
from kvcalc.units import MB, both_units, plural

_UNREAD = ("encoder", "vision", "mtp")
"""Parts that plain decoding does not use."""
_PROJECTS = "projection"
"""In names of matrices next to an embedding's tables."""
_CLOSE = 1000
"""Files and the count in their format differ by less than 0.1%: headers."""
_USUAL_LAST, _BELOW, _BEYOND = 131_072, 4096, 16
"""Of a chart: its last length where the model has none; how many times shorter its first is; and how many times longer
than the model's own it gets so that both lines cross."""
_IDEAL = "ideal"
_GIVE_MS = "give the milliseconds of a step: --step-ms 25"


def decode_step(
    question: Question,
    weights: Weights | None,
    device: str = "",
    bandwidth_bytes_per_second: int | None = None,
    quest: Quest | None = None,
) -> DecodeReport:
    """Bytes that one step of the question's sequences reads, on a GPU of each pipeline stage.

    weights: None if their size is unknown; their reads are then not counted, nor if their tensors are unknown. quest:
    page selection for a cache that keeps everything. Raises NotApplicableError if the number that an indexer or a
    router selects is unknown; InvalidValueError for ranks that cannot share the model.
    """
    _check(question, quest)
    ranks = question.parallel or Parallel()
    sharing = _sharing(question.engine)
    sequences = -(-question.sequences // ranks.dp) * question.engine.copies
    cache = _cache(question, ranks, sharing, quest)
    known = weights if weights is not None and weights.tensors else None
    parts, experts = ((), None) if known is None else _weights(question, known, ranks, sharing, sequences)
    read = Footprint.summed((each.row_bytes * len(each.layers), each.read_rule) for each in cache)
    crossing = read.first_above(sum(part.expected_bytes for part in parts) // sequences) if parts else None
    return DecodeReport(
        model=question.model.name,
        engine=question.engine.name,
        engine_version=question.engine.release_words,
        kv_dtype=question.engine.cache_format(question.model, question.kv_dtype),
        tokens=question.tokens,
        sequences=question.sequences,
        sequences_of_gpu=sequences,
        parallel=str(ranks) if ranks.num_ranks > 1 else "",
        stages=ranks.pp,
        cache=tuple(_rows(cache, question, sequences)),
        weights=parts,
        experts=experts,
        costs_more_from=crossing,
        device=device,
        bandwidth_bytes_per_second=bandwidth_bytes_per_second,
        notes=(*question.model.notes, *remarks(question.model), *_notes(question, known)),
        by_tokens=tuple((tokens, sequences * read.bytes(tokens)) for tokens in _lengths(question, read, crossing)),
    )


def step_floor(on: OnGpus, ranks: Parallel) -> Fraction:
    """Seconds that no step is faster than: the weights that one token uses, read once at the GPU's bandwidth.

    Raises InvalidValueError if the bandwidth or the tensors are unknown, and what `decode_step` raises.
    """
    gpu, rate = on.gpu, on.gpu.bandwidth_mb_s
    if rate is None or not on.weights.tensors:
        unknown = f"bandwidth of {gpu.name}" if rate is None else f"tensors of {on.asked.model.name}"
        raise InvalidValueError(f"{unknown} unknown, which the floor of a step needs", help=_GIVE_MS)
    asked = on.asked._replace(tokens=1, sequences=ranks.dp, parallel=ranks)
    seconds = decode_step(asked, on.weights, gpu.name, rate * MB).seconds
    assert seconds is not None
    return seconds


def _check(question: Question, quest: Quest | None) -> None:
    """Raises NotApplicableError for pages that the engine does not choose, and where a step makes several tokens."""
    engine, model = question.engine, question.model
    if quest is not None:
        check_pages(model)
        if engine.name != _IDEAL:
            raise NotApplicableError(
                f"no kernel of {engine.TITLE} chooses pages as Quest does", help="leave --engine or --quest out"
            )
    if len(engine.served(model).groups) > len(model.groups):
        raise NotApplicableError(
            f"with these settings {engine.TITLE} drafts tokens, and a step then verifies several",
            help="leave the setting of speculation out",
        )
    check_experts(engine, question.parallel or Parallel())


def _sharing(engine: Engine) -> Sharing:
    """How ranks share layers and heads; where no engine is asked about, layers left over go to the first stages."""
    return engine.sharing._replace(extra_layers="first") if engine.name == _IDEAL else engine.sharing


def _cache(question: Question, ranks: Parallel, sharing: Sharing, quest: Quest | None) -> list[ReadTensor]:
    """What a step of one sequence reads on a rank of each stage, all stages together."""
    engine, layout = question.serving, Parallel(tp=ranks.tp, pp=ranks.pp)
    model = engine.served(question.model)
    if engine.SHARES_CONTEXT and layout.num_ranks > 1:
        raise NotApplicableError(
            f"the engine {engine.name} holds one context in one process, which no ranks share",
            help="leave --tp and --pp (parallel) out, or take another engine",
        )
    stages = stored_by_stage(engine, model, question.kv_dtype, rank_models(model, layout, sharing), layout)
    found = cache_reads(question, [group for stage in stages for group in stage], model)
    return list(found) if quest is None else [own for each in found for own in by_pages(each, quest)]


def _rows(cache: Sequence[ReadTensor], question: Question, sequences: int) -> Iterator[TensorReads]:
    """Each tensor of each group, summed over stages."""
    shares = question.engine.SHARES_CONTEXT
    tokens, times = (question.tokens * sequences, 1) if shares else (question.tokens, sequences)
    found: dict[tuple[str, str], TensorReads] = {}
    for each in cache:
        layers = len(each.layers)
        own = TensorReads(
            each.group.name,
            each.name,
            layers,
            str(each.read_rule),
            times * each.stored.slot_rule.slots(tokens) * each.held_bytes * layers,
            sequences * each.read_rule.slots(question.tokens) * each.row_bytes * layers,
        )
        key = (own.group, own.tensor)
        found[key] = found[key].with_layers_of(own) if key in found else own
    yield from found.values()


def _lengths(question: Question, read: Footprint, crossing: int | None) -> list[int]:
    """Lengths that a chart shows: up to the model's own, and to where the lines cross unless that is far beyond."""
    own = max(question.tokens, question.model.max_model_len or _USUAL_LAST)
    last = max(own, crossing) if crossing is not None and crossing <= _BEYOND * own else own
    kinks = (*read.kinks, question.tokens, *([] if crossing is None else [crossing]))
    return samples(max(1, last // _BELOW), last, kinks, read.period)


def _weights(
    question: Question, weights: Weights, ranks: Parallel, sharing: Sharing, sequences: int
) -> tuple[tuple[WeightReads, ...], Experts | None]:
    """Bytes read of each part of the weights, on a GPU of each stage; and the experts of a layer."""
    routing = routing_of(weights)
    tokens = sequences * max(1, ranks.ep // ranks.tp)  # of all replicas that divide the experts
    held = _held(question, weights, ranks, sharing)
    whole = Fraction(1)
    shares = dict.fromkeys(PARTS, (whole, whole)) | {part: (Fraction(0), Fraction(0)) for part in _UNREAD}
    of_embedding, rows = _share_of_embedding(weights, sequences)
    shares[EMBEDDING] = (of_embedding,) * 2
    if routing is not None:
        _check_experts(routing, ranks.ep)
        shares[EXPERTS] = (routing.least(ranks.ep), max(routing.least(ranks.ep), routing.expected(tokens)))
    parts = tuple(
        WeightReads(
            part,
            int(held[part]),
            int(held[part] * shares[part][0]),
            int(held[part] * shares[part][1]),
            rows if part == EMBEDDING else _words_of(part, routing, ranks.ep, tokens),
        )
        for part in PARTS
        if held.get(part)
    )
    return parts, None if routing is None else _experts(routing, ranks.ep, tokens)


def _words_of(part: str, routing: Routing | None, ep: int, tokens: int) -> str:
    """What a step reads of a part."""
    if part == EXPERTS and routing is not None:
        experts = _experts(routing, ep, tokens)
        return f"{float(experts.expected):,.1f} of {experts.on_gpu:,}"
    return "nothing" if part in _UNREAD else "all"


def _check_experts(routing: Routing, ep: int) -> None:
    """Raises InvalidValueError for ranks without an expert."""
    if ep > routing.num_experts:
        raise InvalidValueError(
            f"ep ({ep:,}) is more than the {routing.num_experts:,} routed experts of a layer",
            field="ep",
            help=f"use at most ep {routing.num_experts}",
        )


def _experts(routing: Routing, ranks: int, tokens: int) -> Experts:
    return Experts(
        routing.num_experts // ranks,
        routing.num_experts,
        routing.per_token,
        int(routing.least(ranks) * routing.num_experts / ranks),
        routing.expected(tokens) * routing.num_experts / ranks,
        tokens,
    )


def _held(question: Question, weights: Weights, ranks: Parallel, sharing: Sharing) -> dict[str, Fraction]:
    """Bytes of each part on a GPU of each stage, summed over stages; tied logits read the embedding."""
    stages = stages_of(question.model, ranks.pp, sharing)
    kv_heads = fewest_kv_heads(question.model)
    scale = Fraction(weights.bytes, sum(each.bytes for each in weights.tensors))
    held: dict[str, Fraction] = {}
    for each in weights.tensors:
        own_bytes = sum(size for _, size in on_stages(each, stages))
        held[each.tensor.part] = held.get(each.tensor.part, Fraction(0)) + own_bytes * scale * share_of_rank(
            each.tensor, kv_heads, ranks
        )
    return held


def _share_of_embedding(weights: Weights, sequences: int) -> tuple[Fraction, str]:
    """Share of the embedding's part that a step reads, and what that is.

    Of a table a row for each token, unless it makes the logits, too; projections whole.
    """
    tied = {each.tensor.shares for each in weights.tensors if each.tensor.part == HEAD}
    tables = [each for each in weights.tensors if each.tensor.part == EMBEDDING]
    read = Fraction(0)
    for each in tables:
        rows = each.tensor.shape[0]
        whole = each.tensor.name in tied or _PROJECTS in each.tensor.name
        read += each.bytes if whole else each.bytes * Fraction(min(sequences, rows), rows)
    share = read / (sum(each.bytes for each in tables) or 1)
    rows_read = plural(sequences, "row")
    words = "all" if share == 1 else rows_read if not any(each.tensor.name in tied for each in tables) else ""
    return share, words or f"table of the logits, {rows_read}"


def _notes(question: Question, weights: Weights | None) -> Iterator[str]:
    if weights is None:
        yield (
            "weights read by a step are not counted because their tensors are unknown; they are known for presets, "
            "and for a config.json if transformers is installed"
        )
        return
    yield from weights.words()
    if question.parallel and question.parallel.pp > 1:
        yield "all sequences of a replica pass the stages in sequence, as one batch"
    if question.model.methods and not all(group.is_as_built for group in question.model.groups):
        yield "the cache is read as the method keeps it; additional reads of its kernels are not counted"
    counted_bytes = sum(each.bytes for each in weights.tensors)
    if abs(counted_bytes - weights.bytes) * _CLOSE > weights.bytes:
        yield f"parts are scaled from a count of {both_units(counted_bytes)}"
