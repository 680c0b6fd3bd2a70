"""What prefill sends to decode: the cache of one request, by pair of ranks, and its time on a link.

    bytes of a pair = sum over layers and tensors that both hold of  the overlap of their shares

A rank holds one of `shares` equal parts of a tensor (several ranks hold the same part if there are fewer KV heads than
ranks), or all of it (a latent). A decode rank receives each part from one prefill rank that has it; if several have it,
decode ranks take turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

from kvcalc.answers.size import sized
from kvcalc.engines import Engine
from kvcalc.errors import NotApplicableError
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.report.size import GroupReport, RankReport, Report
from kvcalc.report.transfer import Pair, TransferReport
from kvcalc.units import both_units


class _Held(NamedTuple):
    """A rank's share of a tensor, in each of its layers. part, shares: which of how many."""

    layers: frozenset[int]
    bytes: int
    part: int
    shares: int
    copies: int


_IDEAL = "ideal"
_WINDOWS = ("sliding_window", "attention_chunk_size")
_Key = tuple[str, str]
"""A group and one of its tensors."""


def transfer(
    question: Question,
    prefill: Parallel,
    decode: Parallel,
    link_bytes_per_second: int | None = None,
    in_flight: int = 1,
) -> TransferReport:
    """Bytes that a request of the question's tokens sends from ranks in the `prefill` layout to those in `decode`.

    dp replicas hold separate requests, so that a request goes from one replica to one other. in_flight: requests for
    which decode reserves blocks while they arrive. Whole blocks are sent if the engine stores blocks. Raises
    NotApplicableError if the two sides store a layer in different formats or blocks, or divide tokens.
    """
    one = question._replace(sequences=1)
    whole = sized(one._replace(parallel=None))
    ranks = [_ranks(one, side) for side in (prefill, decode)]
    alike = _replica(prefill) == _replica(decode)
    pairs = _same_ranks(ranks[0]) if alike else _pairs(*(_shares(side, whole.groups) for side in ranks))
    return TransferReport(
        model=whole.model,
        engine=whole.engine,
        engine_version=whole.engine_version,
        kv_dtype=whole.kv_dtype,
        tokens=whole.tokens,
        prefill=str(_replica(prefill)),
        decode=str(_replica(decode)),
        request_bytes=whole.total_bytes,
        pairs=tuple(pairs),
        link_bytes_per_second=link_bytes_per_second,
        in_flight=in_flight,
        staged_bytes=in_flight * max(rank.bytes for rank in ranks[1]),
        notes=(*whole.notes, *_of_windows(one, whole)),
    )


def _of_windows(question: Question, whole: Report) -> Iterator[str]:
    """Note that windows are counted as held during prefill, if an engine holds more than the window."""
    slides = any(limit in group.facts for group in question.model.groups for limit in _WINDOWS)
    if not slides or question.engine.name == _IDEAL:
        return
    least = sized(question._replace(engine=Engine.of(_IDEAL), parallel=None)).total_bytes
    if least < whole.total_bytes:
        yield (
            f"windows are counted as {whole.engine} holds them during prefill; a connector that sends only the window "
            f"itself sends at least {both_units(least)}"
        )


def _replica(ranks: Parallel) -> Parallel:
    return Parallel(tp=ranks.tp, pp=ranks.pp)


def _ranks(question: Question, side: Parallel) -> tuple[RankReport, ...]:
    """What each rank of a replica holds."""
    if side.dcp > 1:
        raise NotApplicableError(
            f"transfers with decode context parallelism (dcp {side.dcp}) are not modelled", help="remove dcp"
        )
    return sized(question._replace(parallel=_replica(side))).per_rank


def _same_ranks(ranks: tuple[RankReport, ...]) -> Iterator[Pair]:
    """Each rank sends everything to the rank with the same share."""
    return (Pair(rank.rank, rank.rank, rank.bytes) for rank in ranks if rank.bytes)


def _shares(ranks: tuple[RankReport, ...], whole: tuple[GroupReport, ...]) -> list[Mapping[_Key, _Held]]:
    """Each rank's share of each tensor."""
    whole_bytes = {(group.name, t.name): t.bytes // group.num_layers for group in whole for t in group.tensors}
    tp = 1 + max(rank.tp_rank for rank in ranks)
    return [dict(_held(rank, tp, whole_bytes)) for rank in ranks]


def _held(rank: RankReport, tp: int, whole_bytes: Mapping[_Key, int]) -> Iterator[tuple[_Key, _Held]]:
    for group in rank.groups:
        for tensor in group.tensors:
            key, own_bytes = (group.name, tensor.name), tensor.bytes // group.num_layers
            if not own_bytes:
                continue
            shares, rest = divmod(whole_bytes.get(key, 0), own_bytes)
            if rest or not shares or tp % shares:
                raise NotApplicableError(
                    f"{tensor.name} of {group.name} layers is stored in different blocks by {tp} ranks and by one: "
                    f"{own_bytes:,} bytes of {whole_bytes.get(key, 0):,}",
                    help="use layouts that store a layer in the same blocks on both sides",
                )
            copies = tp // shares
            yield key, _Held(frozenset(group.layers), own_bytes, rank.tp_rank // copies, shares, copies)


def _pairs(senders: list[Mapping[_Key, _Held]], receivers: list[Mapping[_Key, _Held]]) -> Iterator[Pair]:
    """Each pair of ranks with a transfer."""
    for receiver, wanted in enumerate(receivers):
        for sender, offered in enumerate(senders):
            sent = sum(_sent(offered[key], wanted[key], sender, receiver) for key in wanted.keys() & offered.keys())
            if sent:
                yield Pair(sender, receiver, int(sent))


def _sent(offered: _Held, wanted: _Held, sender: int, receiver: int) -> Fraction:
    """Bytes of a tensor that one rank sends another: the overlap, over all layers in common."""
    if sender % offered.copies != receiver % offered.copies:  # another rank with the same part sends it
        return Fraction(0)
    start = max(Fraction(offered.part, offered.shares), Fraction(wanted.part, wanted.shares))
    end = min(Fraction(offered.part + 1, offered.shares), Fraction(wanted.part + 1, wanted.shares))
    layers = len(offered.layers & wanted.layers)
    return max(Fraction(0), end - start) * offered.bytes * offered.shares * layers
