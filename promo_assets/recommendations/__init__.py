"""Which products, which complements, which promotion for each person.

Here, pure functions over frames and arrays: itemsets and rules of baskets, neighbours of items,
next baskets, ranking, what an offer carries, and how recommenders are compared. Not here: reading
and writing tables (``tables/recommendations.py``), and what an offer earns (``strategy/``).
"""
