"""What every model shares: evaluation on held-out data, and tracking in MLflow.

Here: metrics with their intervals, the store of runs and registered models. Not here: what any
model predicts, or from which features (``propensity/``, ``strategy/effects/``).
"""
