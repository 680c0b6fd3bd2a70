"""How much of a model's cache the GPUs of a deployment hold, and what else uses their memory.

memory   memory of a GPU left for the cache after weights and reserve
demand   what a number of users at a context needs on each rank, and the inverse
asking   both together: `fitted`
fewest   the fewest GPUs that suffice
"""
