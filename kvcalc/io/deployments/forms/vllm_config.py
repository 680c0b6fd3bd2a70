"""Files of `vllm serve --config`: keys are flags, with dashes or underscores; a switch that is false is not set.

Source: docs.vllm.ai, configuration of the server; vllm/utils/argparse_utils.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.reading.flags import flag_name, flag_words, names
from kvcalc.io.deployments.workload import Workload

_SIGNS = names("""
    tensor-parallel-size max-model-len gpu-memory-utilization max-num-seqs kv-cache-dtype served-model-name
    pipeline-parallel-size max-num-batched-tokens enable-prefix-caching block-size data-parallel-size
    trust-remote-code speculative-config kv-transfer-config uvicorn-log-level enforce-eager quantization
""")
_PLACES = frozenset({"model", *_SIGNS})


def _is_own(document: Document) -> bool:
    """One flag that only vLLM has, or a model and a flag."""
    entries = document.root.items()
    found = {flag_name(name) for name, node in entries if not node.is_mapping or name.endswith("config")}
    least = 1 if any("-" in name for name, _ in entries) else 2
    return len(found & _SIGNS) >= least and not found & {"kind", "deployments"}


def _read(document: Document, around: Around) -> Iterator[Read]:
    root = document.root
    first = next((node.line for name, node in root.items() if flag_name(name) in _PLACES), root.line)
    yield Workload(
        name=document.stem,
        line=root.at("model").line if root.at("model") else first,
        words=tuple(flag_words(root.items(), off=False)),
        program="vllm",
        variables=dict(around.given),
    )


FORM = Form("vLLM --config", YAML, _is_own, _read)
