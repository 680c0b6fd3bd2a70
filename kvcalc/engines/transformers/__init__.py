"""What the cache classes of Hugging Face transformers hold, tensor by tensor."""

from kvcalc.engines.transformers.engine import Transformers

ENGINE = Transformers
