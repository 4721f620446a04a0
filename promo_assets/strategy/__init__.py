"""Which offer goes to whom: catalogue, effects, rules, allocation, holdout, decisions, export.

Here: pure functions over Polars and NumPy. Not here: Dagster, SQL, and reading the warehouse.
"""
