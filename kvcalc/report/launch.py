"""An engine's command line for a layout, also as docker compose or Kubernetes Deployment.

Nothing here is used for computing; `kvcalc check` reads these files like any other.
"""

from __future__ import annotations

import json
import shlex
from typing import NamedTuple

COMPOSE, KUBERNETES = "compose", "kubernetes"
MANIFESTS = (COMPOSE, KUBERNETES)


class Launch(NamedTuple):
    """The start of an engine.

    words: its command. image: container image, if it listens on a port. name: of the service. gpus: of one process;
    replicas: number of processes. gpu: name in `kvcalc gpus`. says: what it holds, in words.
    """

    words: tuple[str, ...]
    image: str
    name: str
    port: int
    gpu: str
    gpus: int
    replicas: int
    says: tuple[str, ...]

    @property
    def line(self) -> str:
        """As one shell line."""
        return shlex.join(self.words)

    def written(self, form: str) -> str:
        """As a shell line, or as a file of that form."""
        if form not in MANIFESTS:
            return f"{self.line}\n"
        body = self._compose() if form == COMPOSE else self._kubernetes()
        head = [f"# {words}" for words in (*self.says, f"kvcalc check FILE --gpu {self.gpu} checks it again")]
        return "\n".join([*head, *body]) + "\n"

    def _compose(self) -> list[str]:
        return [
            "services:",
            f"  {self.name}:",
            f"    image: {_quoted(self.image)}",
            f"    entrypoint: {_list(self.words)}",
            "    ipc: host",
            f'    ports: ["{self.port}:{self.port}"]',
            "    deploy:",
            "      resources:",
            "        reservations:",
            "          devices:",
            "            - driver: nvidia",
            f"              count: {self.gpus}",
            "              capabilities: [gpu]",
        ]

    def _kubernetes(self) -> list[str]:
        labels = f"{{app: {_quoted(self.name)}}}"
        return [
            "apiVersion: apps/v1",
            "kind: Deployment",
            "metadata:",
            f"  name: {_quoted(self.name)}",
            "spec:",
            f"  replicas: {self.replicas}",
            "  selector:",
            f"    matchLabels: {labels}",
            "  template:",
            "    metadata:",
            f"      labels: {labels}",
            "    spec:",
            "      containers:",
            "        - name: server",
            f"          image: {_quoted(self.image)}",
            f"          command: {_list(self.words)}",
            "          ports:",
            f"            - containerPort: {self.port}",
            "          resources:",
            "            limits:",
            f"              nvidia.com/gpu: {self.gpus}",
            "          volumeMounts:",
            "            - {name: shm, mountPath: /dev/shm}",
            "      volumes:",
            "        - {name: shm, emptyDir: {medium: Memory}}",
        ]


def _quoted(text: str) -> str:
    """A double-quoted YAML string, which is also a JSON string."""
    return json.dumps(text)


def _list(words: tuple[str, ...]) -> str:
    return json.dumps(list(words))
