"""How much of a model's cache the GPUs of a deployment hold, and what of their memory is in its way.

memory   what of a GPU is left for the cache beside weights and reserve
demand   what a number of users at a context needs on each rank, and the inverse of that
asking   both together: `fitted`
fewest   the smallest number of GPUs that holds what is asked
"""
