"""`--with`: other models on the same GPU, each written as qwen3-0.6b,tokens=8K,users=4."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from kvcalc.cli import asking
from kvcalc.errors import InvalidValueError
from kvcalc.errors.foreign import quoted

if TYPE_CHECKING:
    from kvcalc.fleet.on_gpus import OnGpus
    from kvcalc.io.asked import Terms
    from kvcalc.report.others import Other

_WRITE = "write a model, its context and its users: qwen3-0.6b,tokens=8K,users=4"


def others_on(texts: Sequence[str], question: OnGpus, terms: Terms, tokens: int | None) -> tuple[Other, ...]:
    """Each other model, in the question's engine and on its GPU."""
    return tuple(asking.located("--with", _other, text, question, terms, tokens) for text in texts)


def _other(text: str, question: OnGpus, terms: Terms, tokens: int | None) -> Other:
    from kvcalc.fleet.on_gpus import OnGpus
    from kvcalc.fleet.others import other_of
    from kvcalc.io.loading import load_named
    from kvcalc.units import parse_tokens

    name, *given = text.split(",")
    found = dict(part.partition("=")[::2] for part in given)
    if not name or set(found) - {"tokens", "users"}:
        raise InvalidValueError(f"not another model: {quoted(text)}", help=_WRITE)
    length = parse_tokens(found["tokens"], "tokens") if "tokens" in found else tokens
    if length is None:
        raise InvalidValueError(f"no context given for {quoted(name)}", help=_WRITE)
    model = load_named(name)
    users = parse_tokens(found.get("users", "1"), "users")
    asked = terms._replace(sequences=users).of(model, length)
    whole = asking.served_weights(model, None, None, terms.engine)
    return other_of(OnGpus(asked, question.gpu, whole, None, question.utilization or Fraction(1)))
