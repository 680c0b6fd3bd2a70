"""The Hugging Face Hub, for names given with --hub.

What is fetched: the list of a repository's files, config.json or its equivalent, the index of its weights or the
headers of their files. All of it comes from one commit, which the answer names. Data of weights is never fetched.
"""

from __future__ import annotations

from kvcalc.io.hub.repository import Repository as Repository
from kvcalc.io.hub.repository import pinned as pinned
from kvcalc.io.hub.weights import HubWeights as HubWeights
from kvcalc.io.hub.weights import gguf_of as gguf_of
from kvcalc.io.hub.weights import weights_of as weights_of
