"""Arguments of BentoVLLM's services: a file with `args:`, given to `bentoml build --arg-file`, or to serve.

Source: github.com/bentoml/BentoVLLM, BentoArgs of each service.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.kinds import kind_of
from kvcalc.io.deployments.pods import environment
from kvcalc.io.deployments.reading.flags import flag_words
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Workload

_FLAGS = {
    "tp": "tensor_parallel_size",
    "dp": "data_parallel_size",
    "max_model_len": "max_model_len",
    "kv_cache_dtype": "kv_cache_dtype",
    "kv_transfer_config": "kv_transfer_config",
}
_BACKEND = "attn_backend"


def _is_own(document: Document) -> bool:
    args = document.root.at("args")
    return bool(args.at("model_id").text) and bool(args.at("tp") or args.at("gpu_type").text)


def _read(document: Document, around: Around) -> Iterator[Read]:
    args = document.root.at("args")
    card, backend = args.at("gpu_type"), args.at(_BACKEND).text
    variables = environment(Node({"env": args.at("envs")}, args.line), around).values
    if backend:
        variables = {**variables, "VLLM_ATTENTION_BACKEND": Text.on(backend.line, str(backend))}
    settings = [(flag, args.at(name)) for name, flag in _FLAGS.items() if args.at(name)]
    yield Workload(
        name=str(args.at("name").text) or document.stem,
        line=args.at("model_id").line,
        words=(*flag_words(settings), *(node.text for node in args.at("cli_args").each())),
        program="vllm",
        variables=variables,
        model=args.at("model_id").text,
        gpus=args.at("tp").count or 1,
        gpus_line=args.at("tp").line,
        kind=kind_of(card.text, card.line) if card.text else None,
    )


FORM = Form("BentoVLLM", YAML, _is_own, _read)
