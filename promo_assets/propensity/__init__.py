"""Purchase propensity: will a user buy within the horizon? Pure functions, no Dagster, no tables.

Purchase *propensity* here is never the treatment propensity *score* of causal inference; that one
lives in ``strategy.effects``.
"""
