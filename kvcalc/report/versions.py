"""Versions of the documents that `--format json` prints: each document names its own, `"schema": "size/1"`.

A version goes up if a field is removed or changes its meaning; a new field does not change it.
"""

VERSIONS = {
    "size": 1,
    "compare": 1,
    "methods": 1,
    "fit": 1,
    "fits": 1,
    "choices": 1,
    "replicas": 1,
    "check": 1,
    "fleet": 1,
    "diff": 1,
    "explain": 1,
    "decode": 1,
    "transfer": 1,
    "weights": 1,
    "traffic": 1,
    "replay": 1,
    "replays": 1,
    "vectors": 1,
    "plot": 1,
    "report": 1,
    "deployments": 1,
    "model": 1,
    "gpu": 1,
    "engine": 1,
    "method": 1,
}
"""By kind of document; `kvcalc schema KIND` prints what each field is."""


def named(kind: str) -> dict[str, str]:
    """The first field of a document of this kind."""
    return {"schema": f"{kind}/{VERSIONS[kind]}"}
