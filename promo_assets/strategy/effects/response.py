"""What an offer does for whom: one model of all randomised trials, with its uncertainty.

The value of a send to a user is the margin that it adds before its own cost:

    value = orders without it x margin an order x (lift + basket)

``orders without it``: a Poisson regression on the control arms, of what is known of a user on the
day before. ``lift``: relative change of orders, linear in a few traits, one vector an offer, drawn
towards what all offers share. ``basket``: what the offer changes beyond the number of orders.
Orders times basket has a much smaller variance than margin itself. ``cost`` is what redemptions of
the *same* user are expected to cost. Variances of the hierarchy are those under which the trials
are likeliest (empirical Bayes: Efron and Morris 1975). The likelihood is as sharp as orders really
vary by user: who takes part in several trials, who buys irregularly (sandwich posterior: Mueller
2013). Here: trials in, `Response` out, and a user's value under it. Not here: who gets what
(``allocation/``).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.strategy.effects.estimators import is_mismatched
from promo_assets.strategy.offers.catalogue import Catalogue, Offer

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

COUNTS = (
    "orders_28d",
    "orders_90d",
    "orders_life",
    "active_days_28d",
    "active_days_90d",
    "active_days_life",
    "carts_90d",
    "views_90d",
    "orders_store_life",
    "offers_sent_28d",
)
FEATURES = (
    *COUNTS,
    "gross_90d",
    "discount_90d",
    "gross_life",
    "carts_life",
    "deal_searches_life",
    "offers_sent_life",
    "offers_viewed_life",
    "offers_redeemed_life",
    "tenure_days",
    "recency_days",
)
"""What is read of a user, as features.user_features has it on the day before the send."""

TRIAL_COLUMNS = (
    "closed_date",
    "sent_date",
    "campaign_id",
    "offer_id",
    "user_id",
    "arm",
    "assignment_probability",
    "spend_after",
    "orders_after",
    "goods_cost_after",
    "uncosted_after",
    "offer_costs_after",
    "redemptions",
    "redemption_cost",
    *FEATURES,
)
"""What `fit_responses` reads of strategy.offer_trials."""

LEAST_SENT = 50
"""Of an offer, and of its controls: below it trials tell too little to decide by."""
DRAWS = 60
"""Of the posterior, of all offers together: what is shared is wrong for all of them at once."""
FOLDS = 3
RATE_CUT, TRAIT_CUT = 3.0, 2.0
"""Standard deviations beyond which a column counts no more: what is linear near the middle is not
at the ends, and the best users for an offer are at an end."""
RATE_PENALTY = 1e-3
FREE = 1e-4
"""Precision of coefficients that no prior is meant for."""
OFFER_SD, SHARED_SD, TRAIT_SD = 0.15, 0.1, 0.03
"""Where the search for the hierarchy's standard deviations starts: of an offer's lift about what
the catalogue assumes, of what a trait changes for all offers, and for one."""
DOUBT = 1.0
"""Standard deviation of their log variances about that, before any trial."""
ALIKE = 0.3
"""Of how the score varies by user, the part that is taken as alike in all directions (Kish's design
effect, 1965); the rest is as observed, which is noisier."""
SINGULAR = 1e-8
"""Of the largest: directions that vary less are told by nothing."""
LEAST_LIFT = 0.02
"""An offer that does nothing yet tells something of who would be moved."""
BASKET_SD = 0.03
FULLER_BASKET_SD = 0.08
FULLER_BASKETS = frozenset({"bogo", "threshold_amount_off"})
"""Standard deviation of what an offer changes beyond the number of orders, before any trial; that
of the kinds which ask for more in the basket is larger. Trials tell it with such noise that wider
ones are chosen for their luck."""
RECENT_DAYS = 28
"""Of the newest sends: their controls tell the level of orders now. A sale is over then."""
COST_USERS = 20.0
"""The catalogue's cost of a send weighs as much as this many users."""
COST_PENALTY = 3000.0
"""Users for whom a trait does not change the cost."""
USUAL_ORDERS, USUAL_AMOUNT = 3.0, 90.0
DIGITS = 6


@dataclass(frozen=True)
class Scale:
    """Columns, centred and scaled, and cut at so many standard deviations."""

    mean: list[float]
    spread: list[float]

    @classmethod
    def of(cls, columns: Matrix) -> Scale:
        spread = columns.std(axis=0)
        # A column that is the same for everybody tells nothing of anybody.
        return cls(_told(columns.mean(axis=0)), _told(np.where(spread > 1e-5, spread, 1.0)))

    def __call__(self, columns: Matrix, cut: float) -> Matrix:
        return np.clip((columns - self.mean) / self.spread, -cut, cut)


@dataclass(frozen=True)
class Response:
    """What is known of one offer. Arrays as lists, so that it can be kept as text."""

    horizon: int
    rate_scale: Scale
    rate: list[float]
    """Log orders a day: the intercept, then the scaled `_rate_columns`."""
    trait_scale: Scale
    order_value: float
    """Amount of an order where nothing is known of a user's own."""
    margin: float
    """Margin of an order as a share of the user's order value."""
    lift: list[list[float]]
    """Posterior draws: the offer's own lift, then a change by scaled trait."""
    basket: list[float]
    """Posterior draws."""
    cost: list[float]
    """Redemption cost by probability to order under the offer: the intercept, then a change by
    scaled trait."""

    def text(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def read(cls, text: str) -> Response:
        told: dict[str, Any] = json.loads(text)
        told |= {name: Scale(**told[name]) for name in ("rate_scale", "trait_scale")}
        return cls(**told)

    def worth(self, users: pl.DataFrame) -> Worth:
        """What sending the offer to each of ``users`` (with `FEATURES`) adds and costs."""
        orders, margin, traits = self._of(users)
        lift = np.array(self.lift)
        mean = traits @ lift.mean(axis=0) + np.mean(self.basket)
        spread = np.cov(lift, rowvar=False)
        variance = np.einsum("ij,jk,ik->i", traits, spread, traits) + np.var(self.basket)
        # The best users for an offer seem cheap, too, by luck: nobody is known to be cheaper than
        # the usual one who is as likely to order.
        usual = self.cost[0]
        chance = _chance(orders, traits @ lift.mean(axis=0))
        cost = np.maximum(traits @ np.array(self.cost), usual) * chance
        return Worth(margin * mean, margin * np.sqrt(variance), cost)

    def draws(self, users: pl.DataFrame) -> Vector:
        """The value of sending the offer to all of ``users``, by posterior draw."""
        _, margin, traits = self._of(users)
        return np.array(self.lift) @ (margin @ traits) + np.array(self.basket) * margin.sum()

    def lifts(self, users: pl.DataFrame) -> tuple[Vector, Vector]:
        """Orders expected of each user without the offer in its horizon, and their relative change
        under it: posterior means."""
        orders, _, traits = self._of(users)
        return orders, traits @ np.array(self.lift).mean(axis=0)

    def _of(self, users: pl.DataFrame) -> tuple[Vector, Vector, Matrix]:
        """Orders and margin expected without the offer in the horizon, and scaled traits."""
        known = _Known.of(users)
        columns = _with_one(self.rate_scale(_rate_columns(known), RATE_CUT))
        orders = np.exp(columns @ np.array(self.rate)) * self.horizon
        margin = orders * _order_value(known, self.order_value) * self.margin
        return (
            orders,
            margin,
            _with_one(self.trait_scale(_traits(known, self.order_value), TRAIT_CUT)),
        )


class Worth(NamedTuple):
    """[n] in money: expected margin before the offer's cost, its standard error, expected cost of
    redemptions (the send not included)."""

    value: Vector
    value_se: Vector
    cost: Vector


def fit_responses(
    trials: pl.DataFrame, catalogue: Catalogue, margin_rate: float
) -> dict[str, Response]:
    """The response to every offer of the catalogue that was tried at random, by id.

    ``trials``: rows of strategy.offer_trials. Those with logged probabilities count, unless arms
    are not as large as these say; weights are their inverse. ``margin_rate``: share of the amount
    that is margin where an item's unit cost is not known. Deterministic. An offer is missing
    where fewer than `LEAST_SENT` users are in an arm, or what it costs is not known.
    """
    rows = _usable(trials, catalogue)
    if rows.is_empty():
        return {}
    return _Fit(rows, catalogue, margin_rate).responses()


def _usable(trials: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Randomised rows of the catalogue's offers: no campaign whose arms don't fit, each control
    once, in a fixed order."""
    drawn = trials.filter(
        pl.col("arm").is_in(["sent", "withheld"]),
        pl.col("assignment_probability").is_not_null(),
        pl.col("offer_id").is_in(catalogue.ids),
    ).sort("closed_date", "sent_date", "campaign_id", "offer_id", "user_id")
    key = ["closed_date", "sent_date", "campaign_id", "offer_id"]
    good = []
    for _, rows in drawn.group_by(key, maintain_order=True):
        sent = (rows["arm"] == "sent").to_numpy()
        probability = rows["assignment_probability"].to_numpy()
        if sent.any() and not sent.all() and not is_mismatched(sent, probability):
            good.append(
                rows.with_columns(weight=pl.Series((1 / probability) / (1 / probability).mean()))
            )
    if not good:
        return drawn.clear()
    rows = pl.concat(good)
    arms = rows.group_by("offer_id").agg(
        sent=(pl.col("arm") == "sent").sum(), withheld=(pl.col("arm") == "withheld").sum()
    )
    enough = arms.filter(pl.min_horizontal("sent", "withheld") >= LEAST_SENT)["offer_id"]
    rows = rows.filter(pl.col("offer_id").is_in(enough.implode()))
    controls = rows.filter(pl.col("arm") == "withheld").unique(
        ["closed_date", "sent_date", "campaign_id", "user_id"], keep="first", maintain_order=True
    )
    return pl.concat([rows.filter(pl.col("arm") == "sent"), controls])


class _Fit:
    """One fit of all offers that were tried."""

    def __init__(self, rows: pl.DataFrame, catalogue: Catalogue, margin_rate: float) -> None:
        self.rng = np.random.default_rng(0)
        tried = rows.filter(pl.col("arm") == "sent")["offer_id"].unique()
        self.offers = [offer for offer in catalogue.offers if offer.id in tried]
        self.known = _Known.of(rows)
        self.sent = (rows["arm"] == "sent").to_numpy()
        place = {offer.id: number for number, offer in enumerate(self.offers)}
        self.offer = np.array([place.get(name, 0) for name in rows["offer_id"]])
        self.weight = rows["weight"].to_numpy()
        self.days = (rows["closed_date"] - rows["sent_date"]).dt.total_days().to_numpy() + 1.0
        self.user = rows["user_id"].rank("dense").to_numpy() - 1
        weeks = (rows["sent_date"] - rows["sent_date"].min()).dt.total_days().to_numpy() // 7
        age = (rows["sent_date"].max() - rows["sent_date"]).dt.total_days()  # type: ignore[union-attr]
        self.recent = (age < RECENT_DAYS).to_numpy()
        self.week = np.unique(weeks, return_inverse=True)[1]
        self.orders = _numbers(rows, "orders_after")
        self.redemptions = _numbers(rows, "redemptions")
        self.cost = _numbers(rows, "redemption_cost", missing=np.nan)
        self.margin = (
            _numbers(rows, "spend_after")
            - _numbers(rows, "goods_cost_after")
            - (1 - margin_rate) * _numbers(rows, "uncosted_after")
            - _numbers(rows, "offer_costs_after")
            + self.cost
        )

    def responses(self) -> dict[str, Response]:
        control = ~self.sent
        self._fit_rate()
        bought = self.known["orders_life"].sum()
        usual = self.known["gross_life"].sum() / bought if bought else 0.0
        self.order_value = float(usual) or 1.0
        self.own_value = _order_value(self.known, self.order_value)
        worth = self.orders * self.own_value
        share = (self.weight * self.margin)[control].sum() / max(
            (self.weight * worth)[control].sum(), 1e-9
        )
        traits = _traits(self.known, self.order_value)
        self.trait_scale = Scale.of(traits)
        self.traits = self.trait_scale(traits, TRAIT_CUT)
        lifts = self._lifts()
        found = {}
        for number, offer in enumerate(self.offers):
            cost = self._costs(number, offer, lifts[:, number].mean(axis=0))
            if cost is None:
                continue
            found[offer.id] = Response(
                horizon=offer.horizon,
                rate_scale=self.rate_scale,
                rate=_told(self.rate),
                trait_scale=self.trait_scale,
                order_value=round(self.order_value, 4),
                margin=round(float(share), DIGITS),
                lift=[_told(draw) for draw in lifts[:, number]],
                basket=_told(self._baskets(number, offer, float(share), worth)),
                cost=_told(cost),
            )
        return found

    def _fit_rate(self) -> None:
        """Orders a day without an offer: coefficients from all controls, their level from the
        newest, and each row's own expectation from those of other users."""
        from sklearn.linear_model import PoissonRegressor

        columns = _rate_columns(self.known)
        self.rate_scale = Scale.of(columns)
        columns = self.rate_scale(columns, RATE_CUT)
        weeks = np.eye(self.week.max() + 1)[self.week]
        weeks = 0.5 * (weeks - np.average(weeks, axis=0, weights=self.days))
        both = np.column_stack([columns, weeks])
        fold = self.user % FOLDS

        def fitted(rows: npt.NDArray[np.bool_]) -> Any:
            model = PoissonRegressor(alpha=RATE_PENALTY, solver="newton-cholesky")
            weight = (self.days * self.weight)[rows]
            return model.fit(both[rows], (self.orders / self.days)[rows], sample_weight=weight)

        self.expected = np.empty(len(self.orders))
        for part in range(FOLDS):
            model = fitted(~self.sent & (fold != part))
            self.expected[fold == part] = model.predict(both[fold == part])
        self.expected = np.maximum(self.expected, 1e-5) * self.days
        model = fitted(~self.sent)
        rate = np.array([model.intercept_, *model.coef_[: columns.shape[1]]])
        now = ~self.sent & self.recent
        expected = np.exp(_with_one(columns[now]) @ rate) * self.days[now]
        bought = (self.weight * self.orders)[now].sum()
        if bought > 0:
            rate[0] += np.log(bought / (self.weight[now] * expected).sum())
        self.rate = rate

    def _lifts(self) -> npt.NDArray[np.float64]:
        """[draw, offer, 1 + trait]: of the posterior of lifts.

        What moves people is much alike for all offers: traits change a lift in proportion to it.
        So a first fit without traits tells how strong the offers are, relative to each other.
        """
        offers, traits = len(self.offers), self.traits.shape[1]
        own = np.eye(offers)[self.offer] * self.sent[:, None]
        assumed = np.array([offer.prior_lift or 0.0 for offer in self.offers])
        alone = self._posterior([own], [assumed], np.log([OFFER_SD**2]))
        strength = np.maximum(alone.mean, LEAST_LIFT)
        strength /= strength.mean()
        shared = self.traits * (own @ strength)[:, None]
        by_offer = (own[:, :, None] * self.traits[:, None, :]).reshape(len(own), offers * traits)
        none = np.zeros(1)
        found = self._posterior(
            [own, shared, by_offer],
            [assumed, none, none],
            np.log([OFFER_SD**2, SHARED_SD**2, TRAIT_SD**2]),
        )
        draws = found.draws(self.rng)
        own_, shared_, rest = np.split(draws, np.cumsum([offers, traits]), axis=1)
        slopes = shared_[:, None, :] * strength[None, :, None]
        slopes = slopes + rest.reshape(DRAWS, offers, traits)
        return np.concatenate([own_[:, :, None], slopes], axis=2)

    def _posterior(self, blocks: list[Matrix], means: list[Vector], start: Vector) -> _Posterior:
        """Of the coefficients of ``blocks`` of columns, each block with a normal prior about its
        mean, whose log variances (from ``start``) are those that make the trials likeliest."""
        from scipy.optimize import minimize

        treatment = np.column_stack(blocks)
        rows = len(treatment)
        weeks = np.eye(self.week.max() + 1)[self.week][:, 1:]
        lengths = [self.days == days for days in np.unique(self.days)[1:]]
        usual = np.column_stack([np.ones(rows), self.traits, weeks, *lengths])
        free = usual.shape[1]
        design = np.column_stack([usual, treatment]) * self.expected[:, None]
        residual = self.orders - self.expected
        weight = self.weight / self.expected
        noise = float((weight * residual**2).sum() / self.weight.sum())
        weighted = design * weight[:, None]
        information = weighted.T @ design / noise
        score = weighted.T @ residual / noise
        by_user = _summed(weighted * residual[:, None], self.user) / noise
        information, score = _as_it_varies(information, score, by_user.T @ by_user)
        sizes = [block.shape[1] for block in blocks]
        means = [np.broadcast_to(mean, size) for mean, size in zip(means, sizes, strict=True)]
        prior = np.concatenate([np.zeros(free), *means])

        def posterior(logs: Vector) -> tuple[Matrix, Vector, Vector]:
            precision = np.concatenate([np.full(free, FREE), np.repeat(np.exp(-logs), sizes)])
            return information + np.diag(precision), score + precision * prior, precision

        def unlikely(logs: Vector) -> float:
            matrix, target, precision = posterior(logs)
            lower = np.linalg.cholesky(matrix)
            half = np.linalg.solve(lower, target)
            told = np.log(np.diag(lower)).sum() - 0.5 * np.log(precision).sum()
            fit = 0.5 * (half @ half - (precision * prior**2).sum())
            return float(told - fit + ((logs - start) ** 2).sum() / (2 * DOUBT**2))

        options = {"xatol": 0.02, "fatol": 0.01}
        best = minimize(unlikely, start, method="Nelder-Mead", options=options)
        matrix, target, _ = posterior(best.x)
        covariance = np.linalg.inv(matrix).astype(np.float64)
        return _Posterior((covariance @ target)[free:], covariance[free:, free:])

    def _baskets(self, number: int, offer: Offer, share: float, worth: Vector) -> Vector:
        """Draws of what the offer changes in margin beyond the number of orders."""
        rest = self.margin - share * worth
        usual = share * self.expected * self.own_value
        mine = self.sent & (self.offer == number) & np.isfinite(rest)
        others = ~self.sent
        means, variances = [], []
        for arm in (mine, others):
            total = (self.weight * usual)[arm].sum()
            mean = (self.weight * rest)[arm].sum() / max(total, 1e-9)
            error = self.weight[arm] * (rest[arm] - mean * usual[arm])
            means.append(mean)
            variances.append((error**2).sum() / max(total, 1e-9) ** 2)
        variance = sum(variances)
        assumed = FULLER_BASKET_SD if offer.kind in FULLER_BASKETS else BASKET_SD
        pull = assumed**2 / (assumed**2 + variance)
        normal = self.rng.standard_normal(DRAWS // 2)
        spread = np.concatenate([normal, -normal]) * np.sqrt(pull * variance)
        return pull * (means[0] - means[1]) + spread

    def _costs(self, number: int, offer: Offer, lift: Vector) -> Vector | None:
        """What redemptions of those who were sent the offer cost, by probability to order under
        it; None where that is not known."""
        sent = self.sent & (self.offer == number)
        unknown, redeemed = np.isnan(self.cost), self.redemptions > 0
        if (sent & unknown).sum() > 0.5 * (sent & redeemed).sum():
            return None
        mine = sent & ~unknown
        chance = _chance(self.expected[mine], _with_one(self.traits[mine]) @ lift)
        columns = _with_one(self.traits[mine]) * chance[:, None]
        weight = self.weight[mine] / chance
        matrix = (columns * weight[:, None]).T @ columns
        target = (columns * weight[:, None]).T @ self.cost[mine]
        assumed = (offer.expected_redemption_rate or 0.0) * float(
            offer.expected_cost_per_redemption or 0
        )
        certainty = COST_USERS * chance.mean() if assumed else 0.0
        penalty = COST_PENALTY * chance.mean()
        matrix += np.diag([certainty + 1e-9, *[penalty] * self.traits.shape[1]])
        target[0] += certainty * assumed / chance.mean()
        return np.linalg.solve(matrix, target)


class _Posterior(NamedTuple):
    """A normal distribution of coefficients."""

    mean: Vector
    covariance: Matrix

    def draws(self, rng: np.random.Generator) -> Matrix:
        """[draw, coefficient]: in pairs about the mean, which keep it exact."""
        size = len(self.mean)
        root = np.linalg.cholesky(self.covariance + 1e-12 * np.eye(size))
        spread = rng.standard_normal((DRAWS // 2, size)) @ root.T
        return self.mean + np.concatenate([spread, -spread])


class _Known(dict[str, Vector]):
    """`FEATURES` by name."""

    @classmethod
    def of(cls, users: pl.DataFrame) -> _Known:
        missing = {"recency_days": np.nan}
        return cls({name: _numbers(users, name, missing.get(name, 0.0)) for name in FEATURES})


def _rate_columns(known: _Known) -> Matrix:
    """What tells how often somebody will order."""
    tenure, active = known["tenure_days"] + 1.0, known["active_days_life"]
    recency = np.where(np.isnan(known["recency_days"]), 200.0, known["recency_days"])
    return np.column_stack(
        [
            *(np.log1p(known[name]) for name in COUNTS),
            np.log1p(tenure),
            np.log1p(recency),
            np.isnan(known["recency_days"]),
            np.log((known["orders_life"] + 0.5) / (active + 6)),
            np.log((active + 1) / (tenure + 7)),
            np.log((known["active_days_28d"] + 0.3) / (np.minimum(tenure, 28) + 5)),
        ]
    )


def _traits(known: _Known, order_value: float) -> Matrix:
    """What may tell who is moved by an offer: the search for deals, carts that are left, offers
    opened and used, fatigue, the store, the size of baskets, discounts, how easily one buys."""
    active = known["active_days_life"]
    left = np.maximum(known["carts_life"] - 2 * known["orders_life"], 0.0)
    return np.column_stack(
        [
            np.log((known["deal_searches_life"] + 0.3) / (active + 3)),
            np.log((left + 0.5) / (active + 3)),
            (known["offers_viewed_life"] + 0.6) / (known["offers_sent_life"] + 1),
            np.minimum(known["offers_redeemed_life"], 3),
            known["orders_store_life"] > 0,
            np.log(_order_value(known, order_value)),
            (known["discount_90d"] + 0.1 * USUAL_AMOUNT) / (known["gross_90d"] + USUAL_AMOUNT),
            np.log((known["orders_life"] + 0.5) / (active + 6)),
            np.minimum(known["offers_sent_28d"], 2),
        ]
    )


def _order_value(known: _Known, usual: float) -> Vector:
    """Amount of an order: the user's own, with three orders at the usual one."""
    return (known["gross_life"] + USUAL_ORDERS * usual) / (known["orders_life"] + USUAL_ORDERS)


def _chance(orders: Vector, lift: Vector) -> Vector:
    """Probability to order under an offer; one that annoys is not redeemed less than usual."""
    return np.asarray(-np.expm1(-orders * (1 + np.maximum(lift, 0.0))))


def _as_it_varies(information: Matrix, score: Vector, varies: Matrix) -> tuple[Matrix, Vector]:
    """Information and score of a likelihood whose curvature is the inverse of the estimate's real
    variance, for the same estimate: A B^-1 A and A B^-1 s for information A and score s of
    variance B. Mueller (2013), "Risk of Bayesian inference in misspecified models, and the sandwich
    covariance matrix". ``varies``: sum over users of the squares of their scores.
    """
    inner = np.linalg.pinv(information, rcond=SINGULAR, hermitian=True)
    effect = np.trace(inner @ varies) / max(np.trace(inner @ information), 1.0)
    varies = (1 - ALIKE) * varies + ALIKE * max(effect, 1.0) * information
    sharper = information @ np.linalg.pinv(varies, rcond=SINGULAR, hermitian=True)
    found = sharper @ information
    return (found + found.T) / 2, sharper @ score


def _with_one(columns: Matrix) -> Matrix:
    return np.column_stack([np.ones(len(columns)), columns])


def _numbers(frame: pl.DataFrame, name: str, missing: float = 0.0) -> Vector:
    return frame[name].cast(pl.Float64).fill_null(missing).to_numpy()


def _summed(rows: Matrix, group: npt.NDArray[np.int64]) -> Matrix:
    """Sums of rows by group."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    return np.add.reduceat(rows[order], starts, axis=0)


def _told(values: Vector) -> list[float]:
    return [round(float(value), DIGITS) for value in values]
