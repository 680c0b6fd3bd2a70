"""An entry of a plan as a deployment."""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.cache.dtypes import dtype_named
from kvcalc.fleet.check import Deployment
from kvcalc.io.plans.asked import (
    engine_of,
    length_of,
    longest_of,
    mix_of,
    model_of,
    own_context_of,
    ranks_of,
    says_users,
    sequences_of,
)
from kvcalc.io.plans.holding import Holding
from kvcalc.io.plans.row import Row
from kvcalc.io.written import facts_of, written_of
from kvcalc.question import Question
from kvcalc.report.check import Written
from kvcalc.units import both_units, plural

_ADMITTED = ("max_num_seqs", "max_running_requests", "max_batch_size")
"""Engine settings for the number of concurrent requests."""


def deployed(row: Row) -> Deployment:
    """The entry, read."""
    entry = row.entry
    model = model_of(row)
    mix = mix_of(row)
    tokens = longest_of(row, model, mix) if mix else length_of(row, model)
    dtype = row.take("kv_dtype", dtype_named, entry.kv_dtype)
    ranks = ranks_of(row)
    engine = engine_of(row)
    asked = Question(model, tokens, sequences_of(row), dtype, engine, ranks)
    holding = Holding(row, asked)
    return Deployment(
        name=entry.name,
        asked=asked,
        limit=holding.limit(),
        file=row.document.name if row.file else "",
        line=row.document.lines.get(row.path, 0),
        where=row.document.where(row.path),
        remarks=_remarks(row, asked, holding),
        written=tuple(_written(row)),
        mix=mix,
        mix_where=row.document.where((*row.path, "workload")) if mix else "",
        host=holding.host(),
        on=holding.on_gpus(),
    )


def _remarks(row: Row, asked: Question, holding: Holding) -> tuple[str, ...]:
    found = [f"{said.about}: {said.why}" for said in row.args.told]
    drafter, drafting = asked.model.drafter, sum(len(group.layers) for group in asked.model.draft_groups)
    if drafter is not None and drafter.name != asked.model.name and drafting:
        found.append(f"{plural(drafting, 'draft layer')} of {drafter.name}, planned as layers of this model")
    if row.entry.workload is None and not says_users(row):
        admitted = next(((name, row.args.settings[name]) for name in _ADMITTED if name in row.args.settings), None)
        more = f"; {admitted[0]} admits {admitted[1]}" if admitted else ""
        found.append(f"number of users not given: assuming 1 (--users, or concurrency in a plan){more}")
    if row.entry.tokens is None and row.entry.workload is None and row.args.length is None:
        own = own_context_of(row, asked.model)
        whose = "the model" if own == asked.model.max_model_len else asked.engine.TITLE
        found.append(f"no tokens given: using {whose}'s context of {own:,}")
    if holding.gpu is not None:
        found.extend(holding.gpu.remarks())
        found.extend(holding.weights.words())
        if holding.adapters_bytes is not None:
            found.append(f"{both_units(holding.adapters_bytes)} of each GPU are set aside for {row.args.adapters}")
    return tuple(found)


def _written(row: Row) -> Iterator[Written]:
    """The deciding fields as written: the entry's, its launcher's, and its model file's."""
    entry = {name: value for name, value in row.entry if name in row.entry.model_fields_set}
    for field, value in entry.items():
        if field not in ("name", "args", "engine_settings") and value is not None:
            at = field.removesuffix("_")
            yield row.written(at, value, at)
    for name, value in row.entry.engine_settings.items():
        yield row.written(f"engine_settings.{name}", value, "engine_settings")
    of = "from" if row.entry.from_ else "args"
    for name, value in written_of(row.args).items():
        yield row.written(name if row.by_flags else f"{of}: {name}", value, of)
    given = row.entry.model
    name, of = (str(row.args.model or ""), f"{of}: model") if given is None else (given, "model")
    yield from row.once(("facts", name), lambda: facts_of(name, row.folder, of))
