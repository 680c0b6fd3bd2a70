"""What one decode step reads of cache and weights, and the least time that memory bandwidth allows it.

    bytes of a step = weights that its tokens pass + sequences * what attention reads of each one's cache
    seconds        >= bytes of a step / bandwidth

It is a floor: nothing is counted for computation, launches, communication, writes, blocks and padding, nor for what is
read twice. Of ranks that share the model the step waits for the one that reads most, and passes the stages in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from kvcalc.answers.curves import samples
from kvcalc.answers.decode import CacheReads, Quest, cache_reads, check_pages, remarks
from kvcalc.engines.base.footprint import Footprint
from kvcalc.errors import InvalidValueError
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
from kvcalc.model import Model
from kvcalc.model.checkpoint import PARTS
from kvcalc.parallel import Parallel, Sharing, rank_models, stages_of
from kvcalc.question import Question
from kvcalc.report.decode import DecodeReport, Experts, TensorReads, WeightReads
from kvcalc.units import both_units

_UNREAD = ("encoder", "vision", "mtp")
"""Parts that a step of plain decoding does not pass."""
_CLOSE = 1000
"""Files and what is counted in their format differ by less than a thousandth: headers."""
_USUAL_LAST, _BELOW, _BEYOND = 131_072, 4096, 16
"""Of a chart: its last length where the model has none; how many times shorter its first is; and how many times longer
than the model's own it gets so that both lines cross."""
_SHARING = Sharing(extra_layers="first")


def decode_step(
    question: Question,
    weights: Weights | None,
    device: str = "",
    bandwidth_bytes_per_second: int | None = None,
    quest: Quest | None = None,
) -> DecodeReport:
    """What a step of the question's sequences reads, on a GPU of each pipeline stage.

    weights: None where nothing says their size; what is read of them is then not counted, nor where their tensors are
    not known. quest: pages that a query chooses of a cache that keeps everything.
    Raises NotApplicableError where nothing says what an indexer or a router chooses; InvalidValueError for ranks that
    cannot share the model.
    """
    if quest is not None:
        check_pages(question.model)
    ranks = question.parallel or Parallel()
    sequences = -(-question.sequences // ranks.dp)
    caches = [
        cache_reads(question.of_model(stage), question.model, quest, first_layer)
        for first_layer, stage in _stages(question, ranks)
    ]
    known = weights if weights is not None and weights.tensors else None
    parts, experts = ((), None) if known is None else _weights(question, known, ranks, sequences)
    read = _read(caches)
    crossing = read.first_above(sum(part.expected_bytes for part in parts) // sequences) if parts else None
    return DecodeReport(
        model=question.model.name,
        kv_dtype=question.kv_dtype.name,
        tokens=question.tokens,
        sequences=question.sequences,
        sequences_of_gpu=sequences,
        parallel=str(ranks) if ranks.num_ranks > 1 else "",
        stages=ranks.pp,
        cache=tuple(_rows(caches, question.tokens, sequences)),
        weights=parts,
        experts=experts,
        costs_more_from=crossing,
        device=device,
        bandwidth_bytes_per_second=bandwidth_bytes_per_second,
        notes=(*question.model.notes, *remarks(question.model), *_notes(question, known)),
        by_tokens=tuple((tokens, sequences * read.bytes(tokens)) for tokens in _lengths(question, read, crossing)),
    )


def _stages(question: Question, ranks: Parallel) -> Iterator[tuple[int, Model]]:
    """What a rank of each stage holds of the model, and its first layer."""
    layout = Parallel(tp=ranks.tp, pp=ranks.pp)
    yield from ((rank.first_layer, rank.model) for rank in rank_models(question.model, layout, _SHARING)[:: ranks.tp])


def _rows(caches: Sequence[CacheReads], tokens: int, sequences: int) -> Iterator[TensorReads]:
    """Each tensor of each group, all stages together."""
    found: dict[tuple[str, str], TensorReads] = {}
    for each in (each for cache in caches for each in cache.tensors):
        slots, read = each.tensor.slot_rule.slots(tokens), each.read_rule.slots(tokens)
        own = TensorReads(
            each.group.name,
            each.tensor.name,
            len(each.group.layers),
            str(each.read_rule),
            sequences * slots * each.layer_bytes,
            sequences * read * each.layer_bytes,
        )
        key = (own.group, own.tensor)
        found[key] = found[key].with_layers_of(own) if key in found else own
    yield from found.values()


def _read(caches: Sequence[CacheReads]) -> Footprint:
    """What a step of one sequence reads, all stages together."""
    return Footprint.summed((each.layer_bytes, each.read_rule) for cache in caches for each in cache.tensors)


def _lengths(question: Question, read: Footprint, crossing: int | None) -> list[int]:
    """Lengths that a chart shows: up to the model's own, and to where the lines cross unless that is far beyond."""
    own = max(question.tokens, question.model.max_model_len or _USUAL_LAST)
    last = max(own, crossing) if crossing is not None and crossing <= _BEYOND * own else own
    kinks = (*read.kinks, question.tokens, *([] if crossing is None else [crossing]))
    return samples(max(1, last // _BELOW), last, kinks, read.period)


def _weights(
    question: Question, weights: Weights, ranks: Parallel, sequences: int
) -> tuple[tuple[WeightReads, ...], Experts | None]:
    """What a step reads of each part of the weights, on a GPU of each stage; and of a layer's experts."""
    routing = routing_of(weights)
    tokens = sequences * max(1, ranks.ep // ranks.tp)  # of all replicas that share the experts
    held = _held(question, weights, ranks)
    whole = Fraction(1)
    shares = dict.fromkeys(PARTS, (whole, whole)) | {part: (Fraction(0), Fraction(0)) for part in _UNREAD}
    shares[EMBEDDING] = (_rows_of_table(weights, sequences),) * 2
    if routing is not None:
        _check_experts(routing, ranks.ep)
        shares[EXPERTS] = (routing.least(ranks.ep), max(routing.least(ranks.ep), routing.expected(tokens)))
    parts = tuple(
        WeightReads(part, int(held[part]), *(int(held[part] * share) for share in shares[part]))
        for part in PARTS
        if held.get(part)
    )
    return parts, None if routing is None else _experts(routing, ranks.ep, tokens)


def _check_experts(routing: Routing, ep: int) -> None:
    """Raises InvalidValueError for ranks without an expert."""
    if ep > routing.num_experts:
        raise InvalidValueError(
            f"ep ({ep:,}) is more than the {routing.num_experts:,} routed experts of a layer",
            field="ep",
            help=f"give at most ep {routing.num_experts}",
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


def _held(question: Question, weights: Weights, ranks: Parallel) -> dict[str, Fraction]:
    """Bytes of each part on a GPU of each stage, all stages together; tied logits are read with the embedding's."""
    stages = stages_of(question.model, ranks.pp, _SHARING)
    kv_heads = fewest_kv_heads(question.model)
    scale = Fraction(weights.bytes, sum(each.bytes for each in weights.tensors))
    held: dict[str, Fraction] = {}
    for each in weights.tensors:
        own_bytes = sum(size for _, size in on_stages(each, stages))
        held[each.tensor.part] = held.get(each.tensor.part, Fraction(0)) + own_bytes * scale * share_of_rank(
            each.tensor, kv_heads, ranks
        )
    return held


def _rows_of_table(weights: Weights, sequences: int) -> Fraction:
    """Share of the embedding that a step reads: a row for each token, and all of it where it makes the logits, too."""
    if any(each.tensor.part == HEAD and each.tensor.shares for each in weights.tensors):
        return Fraction(1)
    rows = max((each.tensor.shape[0] for each in weights.tensors if each.tensor.part == EMBEDDING), default=1)
    return Fraction(min(sequences, rows), rows)


def _notes(question: Question, weights: Weights | None) -> Iterator[str]:
    if weights is None:
        yield (
            "what a step reads of the weights is not counted, as their tensors are not known; those of presets are, "
            "and of a config.json where transformers is installed"
        )
        return
    yield from weights.words()
    if question.parallel and question.parallel.pp > 1:
        yield "all sequences of a replica pass the stages in turn, as one batch"
    if question.model.methods and not all(group.is_as_built for group in question.model.groups):
        yield "the cache is read as the method keeps it, whatever its kernels read besides"
    counted_bytes = sum(each.bytes for each in weights.tensors)
    if abs(counted_bytes - weights.bytes) * _CLOSE > weights.bytes:
        yield f"parts are those of {both_units(counted_bytes)} that were counted, in proportion"
