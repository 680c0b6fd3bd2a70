"""How vLLM serves requests: its scheduler and its KV-cache manager, step by step.

pool        blocks: which are free, in which order they are allocated, and their keys
tables      block tables of a group (full, window, chunk); `states`, those of recurrent layers
prefixes    the longest prefix cached by all groups
cache       when a request gets its blocks
queue, sequence, scheduler   who computes how many tokens in a step
settings, building           the settings, and a scheduler for a model's groups
events, runs                 the same by events, for one group of full attention

Established by reading vLLM 0.32.0 and by traces that its own scheduler ran: equal at every step.
"""
