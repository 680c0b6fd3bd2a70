"""Pods: containers with their command, environment, GPUs and image, as in every Kubernetes workload."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

from kvcalc.io.deployments.documents import Around, Document
from kvcalc.io.deployments.kinds import kind_of, kind_of_pod
from kvcalc.io.deployments.reading import yaml
from kvcalc.io.deployments.reading.flags import flag_words
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node, text_node
from kvcalc.io.deployments.workload import Absent, Kind, Told, Workload
from kvcalc.io.engine_args import LMCACHE_FILE, LMCACHE_SIZES, lmcache_variables

_VARIABLE = re.compile(r"\$\$|\$\(([A-Za-z_.-][\w.-]*)\)")
_GPU = re.compile(
    r"(?:nvidia\.com/(?:gpu(?:\.shared)?|mig-.+|pgpu)|amd\.com/gpu|gpu\.intel\.com/(?:i915|xe)|habana\.ai/gaudi"
    r"|google\.com/tpu|aliyun\.com/gpu.*|huawei\.com/Ascend.*)"
)
_SHELL = re.compile(r"(?:.*/)?(?:ba|z|da|a|k)?sh")
_CONFIG_FLAG = "--config"
_MIG = re.compile(r"nvidia\.com/mig-(\d+g\.\d+gb)(?:\.me)?")
_QUANTITY = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)(|[kMGT]|[KMGT]i)")
_UNITS = {
    **{"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12},
    **{"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40},
}
"""Kubernetes quantity suffixes, in bytes."""
_MOST_EXPANDED = 64 * 1024
"""Longest expanded variable, in characters."""
_HELD = ("data", "stringData")
"""Keys of a Secret's values, which are not read."""
BEFORE = "an init container: it runs before the others and has no cache"
_HALVES = ("prefill", "decode")
_SIDECAR = "a sidecar, not an engine"


class Environment(NamedTuple):
    """Variables with values in the files, and names of the others."""

    values: Mapping[str, Text]
    secret: frozenset[str]


def expanded(text: Text, values: Mapping[str, Text]) -> Text:
    """Words with $(NAME) expanded, as in Kubernetes; unset ones stay as written."""
    if "$" not in text:
        return text
    pieces: list[Text] = []
    at = length = 0
    for match in _VARIABLE.finditer(text):
        value = Text.on(text.line_at(match.start()), "$") if match[0] == "$$" else values.get(match[1])
        if value is None:
            continue
        pieces.append(text.part(at, match.start()))
        pieces.append(Text.on(text.line_at(match.start()), str(value)))
        at = match.end()
        length += len(value)
        if length > _MOST_EXPANDED:
            return text
    return Text.joined((*pieces, text.part(at, len(text)))) if pieces else text


def environment(container: Node, around: Around) -> Environment:
    """Variables of a container: envFrom first, then env in order, then the user's."""
    values: dict[str, Text] = {}
    secret: set[str] = set()
    for source in container.at("envFrom").each():
        prefix = str(source.at("prefix").text)
        name = str(source.at("configMapRef", "name").text)
        for key, node in _data(around, name).items():
            values[prefix + key] = node.text
        if (hidden := around.named(("Secret",), str(source.at("secretRef", "name").text))) is not None:
            secret.update(prefix + key for part in _HELD for key, _ in hidden.root.at(part).items())
    for entry in container.at("env").each():
        name = str(entry.at("name").text)
        if entry.at("value"):
            values[name] = expanded(entry.at("value").text, values)
            continue
        reference = entry.at("valueFrom", "configMapKeyRef")
        found = _data(around, str(reference.at("name").text)).get(str(reference.at("key").text))
        if found is not None:
            values[name] = found.text
        elif name:
            secret.add(name)
            values.pop(name, None)
    for name, node in container.at("env").items():  # some kinds write a mapping
        if node.text:
            values[name] = node.text
    values.update(around.given)
    return Environment(values, frozenset(secret - set(values)))


def absent_sources(container: Node, around: Around) -> Iterator[Absent]:
    """ConfigMaps and Secrets of envFrom that are not among the files."""
    for source in container.at("envFrom").each():
        for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            name = str(source.at(key, "name").text)
            if name and around.named((kind,), name) is None:
                optional = source.at(key, "optional").is_true
                yield Absent(source.line, f"{kind} {name}", optional, hidden=kind == "Secret")


def _data(around: Around, name: str) -> Mapping[str, Node]:
    found = around.named(("ConfigMap",), name) if name else None
    return dict(found.root.at("data").items()) if found is not None else {}


def gpus_of(container: Node) -> tuple[int | None, int]:
    """GPUs of a container's limits, else requests, and their line."""
    for part in ("limits", "requests"):
        asked = container.at("resources", part)
        found = [
            (node.count, node.line) for key, node in asked.items() if _GPU.fullmatch(key) and node.count is not None
        ]
        if found:
            return sum(count or 0 for count, _ in found), found[0][1]
    return None, container.at("resources").line


def memory_of(container: Node) -> int | None:
    """Bytes of a container's memory limit; None if it has none or an unknown form."""
    match = _QUANTITY.fullmatch(container.at("resources", "limits", "memory").text)
    return None if match is None else int(Fraction(match[1]) * _UNITS[match[2]])


def _slice(container: Node, whole: Kind | None) -> Kind | None:
    """The MIG slice requested by a container, of its node's GPU."""
    for key, node in (*container.at("resources", "limits").items(), *container.at("resources", "requests").items()):
        if _MIG.fullmatch(key):
            return kind_of_slice(text_node(Text.on(node.line, key)), whole)
    return whole


def kind_of_slice(resource: Node, whole: Kind | None) -> Kind | None:
    """The kind of GPU in a MIG resource name, of its node's GPU; other resources are the whole GPU."""
    match = _MIG.fullmatch(resource.text)
    if match is None:
        return whole
    if whole is not None and whole.name is not None:
        return whole if "-mig-" in whole.name else kind_of(f"{whole.name}-mig-{match[1]}", resource.line)
    return Kind(None, resource.line, f"a {match[1]} slice of an unnamed GPU: pass --gpu NAME-mig-{match[1]}")


def image_of(image: Node) -> Text:
    """An image, possibly with separate registry, repository and tag."""
    if not image.is_mapping:
        return image.text
    parts = [str(image.at(key).text) for key in ("registry", "repository", "name") if image.at(key).text]
    tag, digest = str(image.at("tag").text), str(image.at("digest").text)
    return Text.on(image.line, "/".join(parts) + (f":{tag}" if tag else "") + (f"@{digest}" if digest else ""))


def role_of(labels: Node) -> str | None:
    """The role in a pod's labels (prefill or decode), as in llm-d and related projects."""
    halves = {str(node.text) for _, node in labels.items()} & set(_HALVES)
    return next(iter(halves)) if len(halves) == 1 else None


class Pod(NamedTuple):
    """How a pod's containers are named and counted. nodes: equal pods of one replica.

    more_gpus: of other pods of a replica; kind: GPU given elsewhere in the document. always_part: whether its parts are
    always named. more: variables set by a controller.
    """

    name: str
    replicas: int | None = 1
    role: str | None = None
    nodes: int = 1
    more_gpus: int = 0
    kind: Kind | None = None
    replicas_max: int | None = None
    model: Text | None = None
    program: str = ""
    more: Mapping[str, Text] = {}


def workloads(document: Document, spec: Node, pod: Pod, around: Around) -> Iterator[Workload | Told]:
    """Every container of a pod that may be an engine; init containers are reported."""
    for container in spec.at("initContainers").each():
        about = str(container.at("name").text) or "init container"
        why = _SIDECAR if container.at("restartPolicy").text == "Always" else BEFORE
        yield Told(container.line, about, why)
    for container in spec.at("containers").each():
        yield workload_of(document, container, spec, pod, around)


def workload_of(document: Document, container: Node, spec: Node, pod: Pod, around: Around) -> Workload:
    """What one container may start."""
    values, secret = environment(container, around)
    values = {**pod.more, **values}
    command, args = container.at("command"), container.at("args")
    written = [node.text for node in (*_words(command), *_words(args))]
    words = tuple(expanded(text, values) for text in written)
    files = _mounted(container, spec, around)
    script, words = _of_files(words, files)
    if (lmcache := files.get(str(values.get(LMCACHE_FILE)))) is not None:
        values = {**_of_lmcache(lmcache), **values}
        del values[LMCACHE_FILE]
    start = next((node for node in (args, command) if node), container)
    gpus, line = gpus_of(container)
    kind = _slice(container, pod.kind or kind_of_pod(spec))
    says: list[Told] = []
    visible = values.pop("NVIDIA_VISIBLE_DEVICES", None)  # set by the device plugin if GPUs are requested
    if gpus is None and visible is not None:
        says.append(
            Told(
                visible.line,
                "GPU",
                "requests no GPU but sees one through NVIDIA_VISIBLE_DEVICES: engines may share a card",
            )
        )
    return Workload(
        name=document.prefix + pod.name,
        part=str(container.at("name").text),
        group=id(spec.value),
        line=start.line,
        words=words,
        is_command=bool(command),
        script=script,
        image=str(container.at("image").text),
        program=pod.program,
        variables=values,
        used=frozenset(match[1] for text in written for match in _VARIABLE.finditer(text) if match[1]),
        secret=secret,
        absent=tuple(absent_sources(container, around)),
        model=pod.model if pod.model is not None else _stored(values),
        gpus=None if gpus is None else gpus * pod.nodes + pod.more_gpus,
        gpus_line=line,
        memory_bytes=memory_of(container),
        container_gpus=gpus,
        kind=kind,
        replicas=pod.replicas,
        replicas_max=pod.replicas_max,
        role=pod.role,
        files=files,
        says=tuple(says),
    )


def _stored(values: Mapping[str, Text]) -> Text | None:
    """The model that KServe's storage initializer mounts at /mnt/models."""
    uri = values.get("STORAGE_URI")
    return None if uri is None else Text.on(uri.line, uri.removeprefix("hf://"))


def _mounted(container: Node, spec: Node, around: Around) -> dict[str, Text]:
    """Files of ConfigMaps, by mount path in a container."""
    maps = {
        str(each.at("name").text): each.at("configMap") for each in spec.at("volumes").each() if each.at("configMap")
    }
    found: dict[str, Text] = {}
    for mount in container.at("volumeMounts").each():
        volume = maps.get(str(mount.at("name").text))
        if volume is None:
            continue
        path, sub = mount.at("mountPath").text.rstrip("/"), str(mount.at("subPath").text)
        names = {str(item.at("key").text): str(item.at("path").text) for item in volume.at("items").each()}
        for key, node in _data(around, str(volume.at("name").text)).items():
            if not sub:
                found[f"{path}/{names.get(key, key)}"] = node.text
            elif sub == names.get(key, key):
                found[path] = node.text
    return found


def _of_files(words: tuple[Text, ...], files: Mapping[str, Text]) -> tuple[Text | None, tuple[Text, ...]]:
    """A ConfigMap script run by a shell, and words with a --config file replaced by its contents."""
    if not files or not words:
        return None, words
    script = next((word for word in words[:3] if word in files and word.endswith((".sh", ".bash"))), None)
    if script is not None and (script is words[0] or _SHELL.fullmatch(words[0])):
        return files[script], words
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        path = value if equals else str(words[at + 1]) if at + 1 < len(words) else ""
        if name == _CONFIG_FLAG and path in files:
            settings = [entry for root in yaml.documents(files[path], path) for entry in root.items()]
            config = tuple(flag_words(settings, off=False))
            return None, (*words[:at], *config, *words[at + (1 if equals else 2) :])
    return None, words


def _of_lmcache(file: Text) -> dict[str, Text]:
    """Variables equivalent to LMCache's file in a ConfigMap."""
    entries = {str(key): node.text for root in yaml.documents(file, LMCACHE_FILE) for key, node in root.items()}
    lines = {key: text.line for key, text in entries.items()}
    named = {key: f"LMCACHE_{key.upper()}" for key in LMCACHE_SIZES}
    found = lmcache_variables(entries.items())
    return {named[key]: Text.on(lines[key], found[named[key]]) for key in entries if named.get(key) in found}


def _words(node: Node) -> list[Node]:
    """Items of a list, or a single text."""
    return node.each() or ([node] if node.text else [])
