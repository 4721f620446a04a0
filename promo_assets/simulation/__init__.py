"""The simulated shop: people, devices, visits, orders and promotions whose truth is known.

Here: everything behind ``promo simulate``, in NumPy and Polars, without Dagster. Not here: how the
platform reads what was written (``promo_assets/sources``). No other package may read ``truth/``.
"""
