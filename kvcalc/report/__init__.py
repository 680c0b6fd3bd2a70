"""What a calculation found, as exact integers with the words that explain them. Formats render these and nothing else.

Each report offers two views: `to_dict()`, plain values for JSON, and `sheets()`, tables with typed columns for eyes.
They are named tuples, immutable and cheap to define: this package is on the way of every start-up.
Import from the modules: each is loaded only by who needs it.
"""
