"""Who gets what under a budget: values and costs by user, the price of budget, decisions.

Pure functions over NumPy and Polars. Not here: what an offer does (``effects/``).
"""
