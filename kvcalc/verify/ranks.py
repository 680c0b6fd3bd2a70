"""A model's cache on real ranks: each builds, runs and measures its own share, and all exchange results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import distributed

from kvcalc.answers.size import sized
from kvcalc.engines import Engine
from kvcalc.engines.base.footprint import Footprint
from kvcalc.errors import InvalidValueError, KvcalcError, NotApplicableError
from kvcalc.model import Model, without_origins
from kvcalc.parallel import Parallel, RankModel, rank_models
from kvcalc.question import Question
from kvcalc.report.ranks import MeasuredRank, RanksVerification
from kvcalc.report.size import Report
from kvcalc.report.verification import Verification
from kvcalc.units import both_units, count, plural, positive_int
from kvcalc.verify.devices import device_named
from kvcalc.verify.measure import verify, with_encoder
from kvcalc.verify.memory import free_memory_bytes
from kvcalc.verify.processes import run_ranks
from kvcalc.verify.slices import first_layers
from kvcalc.verify.under_methods import policy_of
from kvcalc.verify.watch import TIMEOUT_SECONDS, done

MOST_RANKS = 64
"""Most ranks that are started; each is a process with its own torch."""


def verify_ranks(  # noqa: PLR0913  # what is asked, and how it is run
    model: Model,
    parallel: Parallel,
    *,
    tokens: int,
    sequences: int = 1,
    kv_dtype: str = "bf16",
    device: str | None = None,
    encoder_tokens: int | None = None,
    layers: int | None = None,
    memory_bytes: int | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
    **how: Any,
) -> RanksVerification:
    """Runs torch modules of each rank's share of `model` in a separate process, and counts the caches.

    device: cpu, cuda (a device for each rank) or meta; by default cuda if there is one, else cpu. encoder_tokens:
    tokens that cross-attention attends to, if the model does not fix them. layers: only the model's first layers.
    memory_bytes: what the caches of one device may take, by default most of what is free; nothing is cut.
    timeout_seconds: by when all ranks are done. how: as `kvcalc.verify.measure.verify` takes it, such as decode_steps.
    Raises InvalidValueError if the model cannot be shared evenly or does not fit, RankDiedError if a rank ends before
    it has reported.
    """
    device = device_named(device)
    _check_ranks(parallel, device)
    if (applied := policy_of(model)) is not None:
        raise NotApplicableError(
            f"{applied.name} runs only in one process, not on ranks", help="verify it without --tp, --pp and --dp"
        )
    model = with_encoder(model, encoder_tokens)
    part = model if layers is None else first_layers(model, positive_int(layers, "layers"))
    asked = Question.of(part, tokens=tokens, sequences=sequences, kv_dtype=kv_dtype, parallel=parallel)
    report = sized(asked)
    shares = tuple(rank._replace(model=without_origins(rank.model)) for rank in rank_models(part, parallel))
    if device != "meta":
        _check_memory(report, shares, asked, device, memory_bytes or free_memory_bytes(device))
    backend = "nccl" if device == "cuda" else "gloo"
    each = report.per_rank[0].sequences
    own = {**how, "tokens": asked.tokens, "sequences": each, "kv_dtype": asked.kv_dtype.name, "device": device}
    outcomes = run_ranks(
        _measure,
        parallel.num_ranks,
        shares,
        own,
        report.most_rank_bytes,
        backend=backend,
        timeout_seconds=timeout_seconds,
    )
    return RanksVerification(
        model=part.name,
        tokens=asked.tokens,
        sequences=asked.sequences,
        kv_dtype=asked.kv_dtype.name,
        device=device,
        parallel=str(parallel),
        backend=backend,
        whole_bytes=report.total_bytes,
        ranks=tuple(map(MeasuredRank, report.per_rank, map(_found, outcomes))),
    )


def _found(outcome: Verification | KvcalcError) -> Verification:
    """What a rank measured. Raises why it could not."""
    if isinstance(outcome, KvcalcError):
        raise outcome
    return outcome


def _check_ranks(parallel: Parallel, device: str) -> None:
    """Raises InvalidValueError for more ranks than can be started on the device."""
    ranks = parallel.num_ranks
    if ranks > MOST_RANKS:
        raise InvalidValueError(
            f"{parallel} has {count(ranks)} ranks; the limit is {MOST_RANKS}",
            help="`kvcalc size` sizes any number of ranks",
        )
    if device == "cuda" and ranks > torch.cuda.device_count():
        found = plural(torch.cuda.device_count(), "CUDA device")
        raise InvalidValueError(
            f"{plural(ranks, 'rank')} need one CUDA device each, but torch finds {found}", help="--device cpu or meta"
        )


def _check_memory(report: Report, shares: Iterable[RankModel], asked: Question, device: str, memory_bytes: int) -> None:
    """Raises InvalidValueError if the caches do not fit: those of all ranks together, on CUDA the largest."""
    sharing = report.per_rank if device == "cpu" else (max(report.per_rank, key=lambda rank: rank.bytes),)
    needed = sum(rank.bytes for rank in sharing)
    if needed <= memory_bytes:
        return
    engine, on_device = Engine.of("ideal"), {rank.rank for rank in sharing}
    footprints = [Footprint.of(share.model, engine, asked.kv_dtype) for share in shares if share.rank in on_device]
    together = Footprint.summed((1, footprint) for footprint in footprints)
    fitting = together.max_tokens(memory_bytes // report.per_rank[0].sequences) or 0
    raise InvalidValueError(
        f"the caches of {plural(len(report.per_rank), 'rank')} need {both_units(needed)} on {device}, but "
        f"{both_units(memory_bytes)} are free",
        help=f"{plural(fitting, 'token')} would fit; --device meta takes no memory",
    )


def _measure(
    shares: tuple[RankModel, ...], question: Mapping[str, Any], memory_bytes: int
) -> list[Verification | KvcalcError]:
    """What every rank measured of its share, or why it could not; each rank does its own, and knows all at the end."""
    rank = distributed.get_rank()
    own: Verification | KvcalcError
    try:
        own = verify(shares[rank].model, **question, memory_bytes=memory_bytes)
    except KvcalcError as error:
        own = error.at(f"rank {rank}")
    done()
    outcomes = [own] * distributed.get_world_size()
    distributed.all_gather_object(outcomes, own)
    return outcomes
