"""Forms of deployments: one file each, found by being there.

A form recognises its documents and reads what they may start. It neither resolves nor sizes anything: words, variables,
GPUs and replicas go to `settling.py` as a `Workload`, with notes as `Told` and `Refused`; nested documents (values of
an Argo application) are yielded as `Document`s.
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


def _no_documents(_: Around) -> Iterator[Document]:
    return iter(())


class Form(NamedTuple):
    """A form. about: a short name; grammar: of its documents; general: tried last.

    uses: files that are read through other files of this form, not on their own. makes: objects that documents of
    this form make, which others name.
    """

    about: str
    grammar: str
    is_own: Callable[[Document], bool]
    read: Callable[[Document, Around], Iterable[Read]]
    general: bool = False
    uses: Callable[[Around], frozenset[str]] = _none
    makes: Callable[[Around], Iterable[Document]] = _no_documents


def forms() -> list[Form]:
    """All forms, general ones last."""
    found: list[Form] = [FORMS.module(name).FORM for name in FORMS.names()]
    return sorted(found, key=lambda form: form.general)


def form_of(document: Document, known: Iterable[Form]) -> Form | None:
    """The form of a document."""
    return next((form for form in known if form.grammar == document.grammar and form.is_own(document)), None)


def of_kinds(*kinds: str, group: str = "") -> Callable[[Document], bool]:
    """Matches Kubernetes documents of these kinds and, if given, of an API group."""

    def is_own(document: Document) -> bool:
        return document.kind in kinds and (not group or document.group.endswith(group))

    return is_own


def nothing() -> Iterator[Read]:
    """Reads nothing: for documents that are read elsewhere."""
    return iter(())
