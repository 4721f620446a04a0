"""Frequent itemsets of baskets: Apriori as one select, so that the engine does the counting.

Apriori (Agrawal & Srikant 1994): an itemset can only be frequent where all its subsets are. Each
length is made of the frequent sets of the one before: joined on a common prefix, pruned by their
other subsets, and counted in the baskets that hold both. Not here: rules (``rules.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST = 4
"""Items of the longest itemset."""


@dataclass(frozen=True)
class Limits:
    """Which itemsets count: in at least ``support[level]`` of a level's baskets, and in
    ``least`` of them; of a larger basket only the ``cap`` most frequent items are counted."""

    support: Mapping[str, float]
    least: int = 10
    cap: int = 100

    @property
    def parameters(self) -> dict[str, Any]:
        """What `ITEMSETS` reads."""
        return {
            "levels": list(self.support),
            "supports": list(self.support.values()),
            "least": self.least,
            "cap": self.cap,
        }


ITEMSETS = """
with lines as materialized (select distinct level, basket, item from ({baskets})),
supports as (
    select unnest($levels) as level, unnest($supports) as support
),
levels as materialized (
    select level, baskets, greatest($least, ceil(support * baskets - 1e-9)) as minimum
    from (select level, count(distinct basket) as baskets from lines group by level)
    inner join supports using (level)
),
-- Items are numbered over all levels, frequent ones first: a number tells its level.
items as materialized (
    select
        cast(row_number() over (order by level, count(*) desc, item) as integer) as id,
        level, item, count(*) as n
    from lines inner join levels using (level)
    group by level, item, minimum
    having count(*) >= minimum
),
placed as materialized (
    select
        cast(dense_rank() over (order by level, basket) as integer) as basket, id,
        row_number() over (partition by level, basket order by id) as place
    from lines inner join items using (level, item)
),
held as materialized (select basket, id from placed where place <= $cap),
pairs as materialized (
    select cast(row_number() over (order by a, b) as integer) as id, level, a, b, n
    from (
        select one.id as a, other.id as b, count(*) as n
        from held as one
        inner join held as other on other.basket = one.basket and other.id > one.id
        group by one.id, other.id
        having count(*) >= (select min(minimum) from levels)
    )
    inner join (select id as a, level from items) using (a)
    inner join levels using (level)
    where n >= minimum
),
triple_candidates as materialized (
    select one.id as one, other.id as other, one.level, one.a, one.b, other.b as c
    from pairs as one
    inner join pairs as other on other.a = one.a and other.b > one.b
    semi join pairs as third on third.a = one.b and third.b = other.b
),
-- Only pairs that a triple needs.
pair_baskets as materialized (
    select pairs.id, one.basket
    from pairs
    semi join (
        select one as id from triple_candidates union select other from triple_candidates
    ) as needed on needed.id = pairs.id
    inner join held as one on one.id = pairs.a
    inner join held as other on other.id = pairs.b and other.basket = one.basket
),
triple_baskets as materialized (
    select candidates.level, candidates.a, candidates.b, candidates.c, one.basket
    from triple_candidates as candidates
    inner join pair_baskets as one on one.id = candidates.one
    inner join pair_baskets as other
        on other.id = candidates.other and other.basket = one.basket
),
triples as materialized (
    select cast(row_number() over (order by a, b, c) as integer) as id, level, a, b, c, n
    from (select level, a, b, c, count(*) as n from triple_baskets group by level, a, b, c)
    inner join levels using (level)
    where n >= minimum
),
quadruple_candidates as materialized (
    select one.id as one, other.id as other, one.level, one.a, one.b, one.c, other.c as d
    from triples as one
    inner join triples as other on other.a = one.a and other.b = one.b and other.c > one.c
    semi join triples as third on third.a = one.a and third.b = one.c and third.c = other.c
    semi join triples as fourth on fourth.a = one.b and fourth.b = one.c and fourth.c = other.c
),
numbered as materialized (
    select triples.id, triple_baskets.basket
    from triples
    semi join (
        select one as id from quadruple_candidates union select other from quadruple_candidates
    ) as needed on needed.id = triples.id
    inner join triple_baskets using (a, b, c)
),
quadruples as (
    select candidates.level, candidates.a, candidates.b, candidates.c, candidates.d, count(*) as n
    from quadruple_candidates as candidates
    inner join numbered as one on one.id = candidates.one
    inner join numbered as other on other.id = candidates.other and other.basket = one.basket
    inner join levels using (level)
    group by all
),
found as (
    select level, id as a, null::integer as b, null::integer as c, null::integer as d, n
    from items
    union all select level, a, b, null, null, n from pairs
    union all select level, a, b, c, null, n from triples
    union all select level, a, b, c, d, n from quadruples inner join levels using (level)
        where n >= minimum
)
select
    level, one.item as item_1, two.item as item_2, three.item as item_3, four.item as item_4,
    found.n as baskets_with, levels.baskets, coalesce(capped.baskets, 0) as capped_baskets
from found
inner join levels using (level)
inner join (select id as a, item from items) as one using (a)
left join (select id as b, item from items) as two using (b)
left join (select id as c, item from items) as three using (c)
left join (select id as d, item from items) as four using (d)
left join (
    select level, count(*) as baskets from placed inner join items using (id)
    where place = $cap + 1 group by level
) as capped using (level)
order by all
"""


def itemsets_sql(baskets: str) -> str:
    """A select of every frequent itemset of up to `LONGEST` items, over a select of ``level``,
    ``basket`` and ``item``; it reads `Limits.parameters` and what ``baskets`` reads.

    Columns: level, item_1 to item_4 (null beyond the set's length, most frequent first),
    baskets_with (those that hold all of them), baskets (of the level) and capped_baskets.
    """
    return ITEMSETS.replace("{baskets}", baskets)
