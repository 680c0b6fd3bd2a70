"""Validation of requests: each value, and the order of arrival."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from kvcalc.engines.base.traffic import Piece, Request
from kvcalc.errors import InvalidValueError
from kvcalc.units import shown

_FORM = '{"id": 0, "arrival_step": 0, "prompt": [[1, 512]], "output_segment": 2, "output_tokens": 64}'


def requests_of(given: Iterable[Request | Mapping[str, object]], max_model_len: int) -> Iterator[Request]:
    """Requests as given, which must be in order of arrival.

    Raises InvalidValueError for an invalid value, and for a prompt that the engine would refuse.
    """
    last = 0
    for place, each in enumerate(given):
        request = each if isinstance(each, Request) else _read(each, place)
        if request.arrival_step < last:
            raise InvalidValueError(
                f"requests[{place}] arrives at step {shown(request.arrival_step)}, before the previous request "
                f"({last})",
                field="arrival_step",
                help="sort requests by arrival_step",
            )
        last = request.arrival_step
        if request.prompt_tokens >= max_model_len:
            raise InvalidValueError(
                f"requests[{place}] has a prompt of {request.prompt_tokens:,} tokens, and max_model_len is "
                f"{max_model_len:,}",
                field="prompt",
                help="raise max_model_len, or remove the request",
            )
        yield request


def _read(given: Mapping[str, object], place: int) -> Request:
    where = f"requests[{place}]"
    if not isinstance(given, Mapping):
        raise InvalidValueError(f"{where} must be a mapping, not {shown(given)}", help=f"for example {_FORM}")
    unknown = sorted(set(map(str, given)) - {*Request._fields})
    if unknown:
        raise InvalidValueError(f"{where} has an unknown field {shown(unknown[0])}", help=_FORM)
    prompt = given.get("prompt")
    if not isinstance(prompt, Sequence) or isinstance(prompt, str) or not prompt:
        raise InvalidValueError(
            f"{where}.prompt must be a list of [segment, tokens], not {shown(prompt)}", field="prompt", help=_FORM
        )
    return Request(
        _name(given.get("id", place), f"{where}.id"),
        _count(given.get("arrival_step", 0), f"{where}.arrival_step", 0),
        tuple(_piece(piece, f"{where}.prompt[{number}]") for number, piece in enumerate(prompt)),
        _name(given.get("output_segment"), f"{where}.output_segment"),
        _count(given.get("output_tokens"), f"{where}.output_tokens", 1),
        _count(given.get("priority", 0), f"{where}.priority", None),
    )


def _piece(given: object, where: str) -> Piece:
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:  # noqa: PLR2004
        raise InvalidValueError(f"{where} must be [segment, tokens], not {shown(given)}", field="prompt", help=_FORM)
    return _name(given[0], where), _count(given[1], where, 1)


def _count(value: object, where: str, least: int | None) -> int:
    if type(value) is not int or (least is not None and value < least):
        at_least = "" if least is None else f" of at least {least}"
        raise InvalidValueError(f"{where} must be a whole number{at_least}, not {shown(value)}", help=_FORM)
    return value


def _name(value: object, where: str) -> Hashable:
    if value is None or (isinstance(value, int | str) and not isinstance(value, bool)):
        return value
    raise InvalidValueError(f"{where} must be a number or a text, not {shown(value)}", help=_FORM)
