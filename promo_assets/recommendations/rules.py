"""Association rules (关联规则) of frequent itemsets, with how sure they are.

A rule says: baskets that hold the antecedent also hold the consequent (one item). Measures, with
n baskets, of which n_a hold the antecedent, n_c the consequent and n_ac both:

- support n_ac / n; confidence n_ac / n_a, with Wilson's interval;
- lift (n_ac n) / (n_a n_c), with the interval of its logarithm by the delta method;
- leverage n_ac/n - n_a n_c/n^2; conviction (1 - n_c/n) / (1 - confidence), null where no basket
  contradicts the rule;
- p_value of the exact binomial test that of n_a baskets at least n_ac hold the consequent by chance
  (a little larger than Fisher's, at a hundredth of its cost), and q_value, the same corrected for
  all tests of the level (Benjamini & Yekutieli 2001: tests may depend).

Baskets count as independent; those of one person are not quite, so intervals are a little narrow.
Not here: which itemsets are frequent (``itemsets.py``).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.recommendations.itemsets import ITEMS, LONGEST

Z95 = 1.959963984540054
SIGNIFICANT = 0.05
"""A rule is kept where its ``q_value`` is at most this."""
Vector = npt.NDArray[np.float64]


def rules_of(itemsets: pl.DataFrame, most: int) -> pl.DataFrame:
    """Every significant rule with a lift above 1; of each level the ``most`` whose lift is surely
    highest (by the lower end of its interval), ranked from 1.

    ``itemsets``: what `itemsets_of` tells, with all subsets of each. Columns: level, antecedent
    (items in order, joined by " + "), antecedent_size, consequent, the counts, the measures of the
    module and ``tests``, the number of rules of the level that were tested.
    """
    candidates = pl.concat([_of_length(itemsets, size) for size in range(2, LONGEST + 1)])
    measured = candidates.with_columns(**_measures(candidates))
    tested = measured.with_columns(tests=pl.len().over("level"), q_value=corrected().over("level"))
    return (
        tested.filter(pl.col("q_value") <= SIGNIFICANT, pl.col("lift") > 1)
        .sort(
            "level", "lift_low", "antecedent", "consequent", descending=[False, True, False, False]
        )
        .with_columns(rule_rank=pl.int_range(1, pl.len() + 1).over("level").cast(pl.Int64))
        .filter(pl.col("rule_rank") <= most)
    )


def _of_length(itemsets: pl.DataFrame, size: int) -> pl.DataFrame:
    """The candidates made of itemsets of ``size``: each item in turn is the consequent."""
    sets = _long_enough(itemsets, size).with_columns(n_ac="baskets_with")
    antecedents = _long_enough(itemsets, size - 1).rename({"baskets_with": "n_a"})
    consequents = _long_enough(itemsets, 1).select("level", consequent="item_1", n_c="baskets_with")
    parts = []
    for place in range(size):
        others = [ITEMS[other] for other in range(size) if other != place]
        parts.append(
            sets.select(
                "level", "baskets", "capped_baskets", "n_ac", consequent=ITEMS[place],
                **{ITEMS[new]: old for new, old in enumerate(others)},
            )
        )  # fmt: skip
    names = ITEMS[: size - 1]
    return (
        pl.concat(parts)
        .join(antecedents.select("level", *names, "n_a"), on=["level", *names])
        .join(consequents, on=["level", "consequent"])
        .select(
            "level",
            pl.concat_str(names, separator=" + ").alias("antecedent"),
            pl.lit(size - 1, pl.Int64).alias("antecedent_size"),
            *("consequent", "n_a", "n_c", "n_ac", "baskets", "capped_baskets"),
        )
    )


def _long_enough(itemsets: pl.DataFrame, size: int) -> pl.DataFrame:
    """The itemsets of exactly ``size`` items."""
    has = pl.col(ITEMS[size - 1]).is_not_null()
    return itemsets.filter(has if size == LONGEST else has & pl.col(ITEMS[size]).is_null())


def _measures(rules: pl.DataFrame) -> dict[str, pl.Series]:
    from scipy.special import bdtrc

    a, c, both, n = (
        rules[name].cast(pl.Float64).to_numpy() for name in ("n_a", "n_c", "n_ac", "baskets")
    )
    confidence, share = both / a, c / n
    lift = confidence / share
    error = np.sqrt(np.maximum(1 / both - 1 / a - 1 / c + (2 * lift - 1) / n, 0))
    low, high = _wilson(both, a)
    with np.errstate(divide="ignore"):
        conviction = np.where(confidence < 1, (1 - share) / (1 - confidence), np.nan)
    told = {
        "support": both / n,
        "confidence": confidence,
        "confidence_low": low,
        "confidence_high": high,
        "lift": lift,
        "lift_low": lift * np.exp(-Z95 * error),
        "lift_high": lift * np.exp(Z95 * error),
        "leverage": both / n - a / n * share,
        "p_value": bdtrc(both - 1, a.astype(np.int64), np.minimum(share, 1 - 1e-12)),
    }
    found = {name: pl.Series(values, dtype=pl.Float64) for name, values in told.items()}
    return found | {"conviction": pl.Series(conviction, dtype=pl.Float64).fill_nan(None)}


def _wilson(hits: Vector, tries: Vector) -> tuple[Vector, Vector]:
    """Wilson's 95 % interval of a share (1927)."""
    share, squared = hits / tries, Z95**2 / tries
    middle = (share + squared / 2) / (1 + squared)
    half = Z95 * np.sqrt(share * (1 - share) / tries + squared / tries / 4) / (1 + squared)
    return np.minimum(middle - half, share), np.maximum(middle + half, share)


def corrected() -> pl.Expr:
    """``p_value`` after Benjamini and Yekutieli: the smallest false discovery rate at which a rule
    would be kept."""
    p, tests = pl.col("p_value"), pl.len()
    harmonic = (1 / pl.int_range(1, pl.len() + 1)).sum()
    raised = p * tests * harmonic / p.rank("max")
    # Of all rules whose p is at least as large, the smallest.
    order = p.arg_sort(descending=True)
    smallest = raised.gather(order).cum_min().gather(order.arg_sort())
    return smallest.clip(0, 1)
