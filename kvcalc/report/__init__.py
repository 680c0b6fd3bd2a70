"""Results of calculations: exact integers and the words that explain them. Formats render only these.

Each report has two views: `to_dict()`, plain values for JSON, and `sheets()`, tables with typed columns for people.
They are named tuples, immutable and cheap to define: every start-up loads this package. Import from the modules: each
is loaded only where needed.
"""
