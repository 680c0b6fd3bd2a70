"""Forms that deployments are written in: one file each, found by being there.

A form says which documents are its own, and reads what they may start. What it reads is not resolved and sized: words,
variables, GPUs and replicas go to `settling.py` as a `Workload`; what it must say goes along as `Told` and `Refused`; a
document that stands within another (values of an Argo application) is handed on as a `Document`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

from kvcalc.io.deployments.documents import Around, Document
from kvcalc.io.deployments.workload import Refused, Told, Workload
from kvcalc.registry import Registry

FORMS = Registry("kvcalc.io.deployments.forms", "form of deployment")
Read: TypeAlias = Workload | Told | Refused | Document


def _none(_: Around) -> frozenset[str]:
    return frozenset()


class Form(NamedTuple):
    """A form. about: what it is, in a word or two; grammar: of its documents; general: asked when no other will.

    uses: files that are read through others of this form, and not on their own.
    """

    about: str
    grammar: str
    is_own: Callable[[Document], bool]
    read: Callable[[Document, Around], Iterable[Read]]
    general: bool = False
    uses: Callable[[Around], frozenset[str]] = _none


def forms() -> list[Form]:
    """All of them, those for anything that is left at the end."""
    found: list[Form] = [FORMS.module(name).FORM for name in FORMS.names()]
    return sorted(found, key=lambda form: form.general)


def form_of(document: Document, known: Iterable[Form]) -> Form | None:
    """The form that a document is written in."""
    return next((form for form in known if form.grammar == document.grammar and form.is_own(document)), None)


def of_kinds(*kinds: str, group: str = "") -> Callable[[Document], bool]:
    """Documents of Kubernetes of these kinds, and of a group of APIs where there is one."""

    def is_own(document: Document) -> bool:
        return document.kind in kinds and (not group or document.group.endswith(group))

    return is_own


def nothing() -> Iterator[Read]:
    """What a document reads as whose own is read elsewhere."""
    return iter(())
