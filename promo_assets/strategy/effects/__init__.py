"""What offers did: effects of campaigns from closed trials, pooled by offer and segment.

Here: causal estimates with their intervals and grades. Not here: what is made of them.
"""
