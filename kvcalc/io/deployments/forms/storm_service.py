"""StormService of AIBrix and RoleBasedGroup: roles, each with its own pod and replicas.

Source: aibrix.readthedocs.io, StormService; github.com/sgl-project/rbg, API of RoleBasedGroup.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read, of_kinds
from kvcalc.io.deployments.forms.leader_worker_set import gpus_of_pod
from kvcalc.io.deployments.pods import Pod, workloads
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Workload


def _read(document: Document, around: Around) -> Iterator[Read]:
    spec = document.root.at("spec")
    of_storm = spec.at("template", "spec")
    roles = of_storm.at("roles") if of_storm.at("roles") else spec.at("roles")
    services = spec.at("replicas").count or 1
    templates = {str(each.at("name").text): each.at("template") for each in spec.at("roleTemplates").each()}
    for role in roles.each():
        name = str(role.at("name").text)
        replicas = role.at("replicas").count
        template, size = _template(role, templates)
        pod = Pod(
            f"{document.name}/{name}",
            services * (1 if replicas is None else replicas),
            _half(name),
            more_gpus=(size - 1) * gpus_of_pod(template.at("spec")),
        )
        for read in workloads(document, template.at("spec"), pod, around):
            yield read._replace(part="") if isinstance(read, Workload) else read


def _template(role: Node, templates: dict[str, Node]) -> tuple[Node, int]:
    """The pod of a role, and the number of pods in one replica."""
    pattern = role.at("leaderWorkerPattern")
    if pattern:
        return pattern.first("template", "leaderTemplate"), pattern.at("size").count or 1
    standalone = role.at("standalonePattern", "template")
    reference = str(role.first("templateRef").at("name").text)
    found = role.at("template") if role.at("template") else standalone
    found = found if found else templates.get(reference, role)
    return found, role.at("podGroupSize").count or 1


def _half(name: str) -> str | None:
    return next((half for half in ("prefill", "decode") if half in name.lower()), None)


FORM = Form("StormService, RoleBasedGroup", YAML, of_kinds("StormService", "RoleBasedGroup", "RoleSet"), _read)
