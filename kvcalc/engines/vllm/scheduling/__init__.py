"""How vLLM serves requests: its scheduler and its KV-cache manager, step by step.

pool        blocks: which are free, in which order they are given out, what they are known by
tables      block tables of a group (full, window, chunk); `states`, those of recurrent layers
prefixes    the longest prefix that all groups have
cache       when a request gets its blocks
queue, sequence, scheduler   who computes how many tokens in a step
settings, building           what can be told, and a scheduler by the groups of a model
events, runs                 the same from event to event, for one group of full attention

Established by reading vLLM 0.32.0 and by traces that its own scheduler ran: equal at every step.
"""
