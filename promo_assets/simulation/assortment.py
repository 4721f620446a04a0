"""What the shop sells: a category tree, brands, prices, popularity, stock, and planted pairs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.simulation.draws import bits, choices, field, purpose, threshold

Numbers = npt.NDArray[np.int64]

TREE = {
    "Grocery": {
        "Breakfast": ("Muesli", "Jam", "Honey"),
        "Drinks": ("Coffee", "Tea", "Juice"),
        "Pantry": ("Pasta", "Rice", "Olive oil"),
    },
    "Beauty": {
        "Skin": ("Cream", "Serum", "Sun care"),
        "Hair": ("Shampoo", "Conditioner", "Styling"),
        "Make-up": ("Lipstick", "Mascara", "Foundation"),
    },
    "Home": {
        "Kitchen": ("Pans", "Knives", "Storage"),
        "Textiles": ("Towels", "Bedding", "Curtains"),
        "Light": ("Lamps", "Bulbs", "Candles"),
    },
    "Fashion": {
        "Women": ("Dresses", "Blouses", "Skirts"),
        "Men": ("Shirts", "Trousers", "Jackets"),
        "Shoes": ("Sneakers", "Boots", "Sandals"),
    },
    "Electronics": {
        "Audio": ("Headphones", "Speakers", "Cables"),
        "Mobile": ("Cases", "Chargers", "Holders"),
        "Computer": ("Mice", "Keyboards", "Hubs"),
    },
    "Leisure": {
        "Sport": ("Yoga", "Running", "Cycling"),
        "Books": ("Novels", "Cooking books", "Travel books"),
        "Toys": ("Puzzles", "Board games", "Blocks"),
    },
}
DEPARTMENT_SHARE = (0.30, 0.18, 0.14, 0.16, 0.12, 0.10)
DEPARTMENT_PRICE = (6.0, 14.0, 24.0, 34.0, 28.0, 18.0)
"""Median list price of a department's items; the unit is the shop's currency."""

PATHS = tuple(
    f"{department}/{group}/{leaf}"
    for department, groups in TREE.items()
    for group, leaves in groups.items()
    for leaf in leaves
)
CATEGORIES = len(PATHS)
A_DEPARTMENT = CATEGORIES // len(TREE)
ITEMS_A_CATEGORY = 45
BRANDS_A_DEPARTMENT = 8
ZIPF = 0.95
"""Popularity falls as rank to this power within a category."""

VARIANTS = 4
PROFILES = CATEGORIES * VARIANTS
"""Taste profiles: a favourite category, and one of four choices of the next two."""
TASTE = (0.45, 0.20, 0.10)
"""Share of the three favourite categories; the rest goes to all categories by their popularity."""

CATEGORY_SLOTS = 256
ITEM_SLOTS = 1024
TIERS = (-0.9, 0.0, 0.6)
"""How popularity within a category bends with price: power of price over the median, for people
who look for cheap items, who do not look, and who look for good ones."""

PAIRS = 30
PAIR_SLOTS = 64
STOCK_BLOCK_DAYS = 5
OUT_OF_STOCK = 0.02
NEW_SHARE = 0.10
NEW_WITHIN_DAYS = 120
SALE_SHARE = 0.4
SALE_OFF_PERCENT = 20


@dataclass(frozen=True)
class Assortment:
    """Item ``i`` is in category ``i // ITEMS_A_CATEGORY``, at that rank of popularity."""

    seed: int

    @property
    def size(self) -> int:
        return CATEGORIES * ITEMS_A_CATEGORY

    @cached_property
    def category(self) -> Numbers:
        return np.arange(self.size) // ITEMS_A_CATEGORY

    @cached_property
    def rank(self) -> Numbers:
        return np.arange(self.size) % ITEMS_A_CATEGORY

    @cached_property
    def price(self) -> Numbers:
        """List prices in cents: lognormal around the department's median, ending in 9."""
        spread = self._normal("price") * 0.55 + np.repeat(
            self._normal("category price", CATEGORIES) * 0.25, ITEMS_A_CATEGORY
        )
        median = np.repeat(DEPARTMENT_PRICE, A_DEPARTMENT * ITEMS_A_CATEGORY)
        cents = np.round(median * np.exp(np.clip(spread, -1.3, 1.5)) * 10).astype(np.int64) * 10
        return np.maximum(cents, 100) - 1

    @cached_property
    def cost(self) -> Numbers:
        """Unit costs in cents: 55 % to 75 % of the price."""
        share = 0.55 + 0.20 * field(self._drawn("cost"), 0, 16) / 65536
        return np.round(self.price * share).astype(np.int64)

    @cached_property
    def launch(self) -> Numbers:
        """The day on which an item comes in; 0 for those that are there from the start."""
        drawn = self._drawn("launch")
        later = field(drawn, 0, 16) < threshold(NEW_SHARE, 16)
        day = 1 + field(drawn, 16, 16) * NEW_WITHIN_DAYS // 65536
        launch = np.where(later & (self.rank >= 3), day, 0)
        launch[self.pairs[1]] = 0
        return launch

    @cached_property
    def on_sale(self) -> npt.NDArray[np.bool_]:
        """Which items the sale marks down."""
        return field(self._drawn("sale"), 0, 16) < threshold(SALE_SHARE, 16)

    @cached_property
    def pairs(self) -> tuple[Numbers, Numbers, Numbers]:
        """Planted pairs: the best seller of a category, its complement, and how often (of
        `PAIR_SLOTS`) the complement joins a basket because of it. No item is in two pairs."""
        left = np.argsort(bits(purpose(self.seed, "pair left"), np.arange(CATEGORIES)))[:PAIRS]
        drawn = bits(purpose(self.seed, "pair right"), left)
        sibling = (left // A_DEPARTMENT) * A_DEPARTMENT + (
            left % A_DEPARTMENT + 1 + field(drawn, 0, 16) % (A_DEPARTMENT - 1)
        ) % A_DEPARTMENT
        item = left * ITEMS_A_CATEGORY
        order = np.argsort(np.argsort(sibling, kind="stable"), kind="stable")
        first = np.searchsorted(np.sort(sibling), sibling)
        partner = sibling * ITEMS_A_CATEGORY + 4 + (order - first)
        return item, partner, 16 + field(drawn, 32, 16) % 17

    @cached_property
    def partner(self) -> tuple[Numbers, Numbers]:
        """For every item its complement (-1: none) and how often of `PAIR_SLOTS`."""
        item, partner, often = self.pairs
        whose, how = np.full(self.size, -1), np.zeros(self.size, np.int64)
        whose[item], how[item] = partner, often
        return whose, how

    def available(self, day: int) -> npt.NDArray[np.bool_]:
        """Which items can be bought on ``day``: launched and in stock."""
        drawn = bits(purpose(self.seed, "stock", day // STOCK_BLOCK_DAYS), np.arange(self.size))
        in_stock = field(drawn, 0, 16) >= threshold(OUT_OF_STOCK, 16)
        # The last of a category never runs out, so that every item has a substitute.
        return (self.launch <= day) & (in_stock | (self.rank == ITEMS_A_CATEGORY - 1))

    def substitutes(self, day: int) -> Numbers:
        """What is bought instead of each item on ``day``: itself, or the next one in its category
        that is available."""
        there = self.available(day).reshape(CATEGORIES, ITEMS_A_CATEGORY)
        place = np.where(there, np.arange(ITEMS_A_CATEGORY), 4 * ITEMS_A_CATEGORY)
        following = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
        first = place.min(axis=1, keepdims=True)
        chosen = np.where(following < ITEMS_A_CATEGORY, following, first)
        return (np.arange(CATEGORIES)[:, None] * ITEMS_A_CATEGORY + chosen).ravel()

    @cached_property
    def category_slots(self) -> npt.NDArray[np.uint8]:
        """[profile, `CATEGORY_SLOTS`]: a uniform slot is the category of a viewed item."""
        popular = self.category_share
        table = np.empty((PROFILES, CATEGORY_SLOTS), np.uint8)
        for profile in range(PROFILES):
            shares = popular * (1 - sum(TASTE))
            for category, share in zip(self.favourites(profile), TASTE, strict=True):
                shares[category] += share
            table[profile] = choices(shares, CATEGORY_SLOTS)
        return table

    @cached_property
    def category_share(self) -> npt.NDArray[np.float64]:
        within = 1.0 / np.arange(1, A_DEPARTMENT + 1)
        return np.concatenate([share * within / within.sum() for share in DEPARTMENT_SHARE])

    @staticmethod
    def favourites(profile: int) -> tuple[int, int, int]:
        """The three favourite categories of a profile: neighbours, or one of another department."""
        first, variant = divmod(profile, VARIANTS)
        base = (first // A_DEPARTMENT) * A_DEPARTMENT
        second = base + (first - base + 1 + variant) % A_DEPARTMENT
        third = (first + A_DEPARTMENT * (1 + variant)) % CATEGORIES
        return first, second, third

    @cached_property
    def item_slots(self) -> npt.NDArray[np.int16]:
        """[tier, category, `ITEM_SLOTS`]: a uniform slot is an item of the category."""
        table = np.empty((len(TIERS), CATEGORIES, ITEM_SLOTS), np.int16)
        for category in range(CATEGORIES):
            items = slice(category * ITEMS_A_CATEGORY, (category + 1) * ITEMS_A_CATEGORY)
            price = self.price[items] / np.median(self.price[items])
            for tier, power in enumerate(TIERS):
                shares = (1.0 + self.rank[items]) ** -ZIPF * price**power
                table[tier, category] = items.start + choices(shares, ITEM_SLOTS)
        return table

    @cached_property
    def filler(self) -> Numbers:
        """The item of each category that fills a basket up to a threshold: the one whose price is
        the lowest, among those that are there from the start."""
        price = np.where(self.launch > 0, 10**9, self.price)
        cheapest = price.reshape(CATEGORIES, ITEMS_A_CATEGORY).argmin(axis=1)
        return np.arange(CATEGORIES) * ITEMS_A_CATEGORY + cheapest

    @cached_property
    def ids(self) -> pl.Series:
        """Delivered ids: they don't tell the category or the rank."""
        shuffled = np.argsort(bits(purpose(self.seed, "item id"), np.arange(self.size)))
        return pl.Series("item_id", shuffled + 10_000).cast(pl.String)

    @cached_property
    def brand(self) -> pl.Series:
        number = field(self._drawn("brand"), 0, 16) % BRANDS_A_DEPARTMENT
        department = self.category // A_DEPARTMENT
        names = [f"brand-{chr(97 + d)}{n}" for d, n in zip(department, number, strict=True)]
        return pl.Series("brand", names)

    def frame(self, day: int) -> pl.DataFrame:
        """The item table as the shop lists it at the end of ``day``."""
        return (
            pl.DataFrame(
                {
                    "item_id": self.ids,
                    "category": pl.Series(PATHS)[self.category],
                    "brand": self.brand,
                    "list_price": money(self.price),
                    "unit_cost": money(self.cost),
                    "in_stock": self.available(day),
                }
            )
            .filter(pl.Series(self.launch <= day))
            .sort("item_id")
        )

    def _drawn(self, name: str) -> npt.NDArray[np.uint64]:
        return bits(purpose(self.seed, "item", name), np.arange(self.size))

    def _normal(self, name: str, size: int | None = None) -> npt.NDArray[np.float64]:
        """Standard normal draws: twelve uniform ones less six."""
        counters = np.arange((size or self.size) * 12)
        uniform = field(bits(purpose(self.seed, "item", name), counters), 0, 32) / 2**32
        return uniform.reshape(-1, 12).sum(axis=1) - 6


def money(cents: Numbers, known: npt.NDArray[np.bool_] | None = None) -> pl.Series:
    """Cents as decimals with two digits, null where not ``known``; exact, and without a detour
    over floats or text."""
    import pyarrow as pa

    words = np.empty((len(cents), 2), np.int64)
    words[:, 0] = cents
    words[:, 1] = cents >> 63
    valid = None if known is None else pa.py_buffer(np.packbits(known, bitorder="little"))
    array = pa.Array.from_buffers(pa.decimal128(18, 2), len(cents), [valid, pa.py_buffer(words)])
    return pl.Series(array)
