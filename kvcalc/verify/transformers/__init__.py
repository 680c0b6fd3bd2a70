"""What transformers itself holds: its own classes, built from a config, run on random tokens, and their caches read.

Never a model's own code: classes come only from the installed library, and nothing is fetched.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
