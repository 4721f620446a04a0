"""Who is behind a device: accounts and devices linked as of each day, by rules alone.

Links are log-ins (an event that names account and device) and the shop's own statements. People
are the connected components of these links. A device on which several people log in says nothing
about who holds it: it is quarantined. Statements alone make two accounts one person; log-ins don't.

Here: from links to changes of attribution, pure. Not here: what events the changes are applied to
(``dbt_like_sql/core/events.sql``), and what one person's accounts allow (``strategy/consent.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.people.links import Rules

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NOBODY = -1
STATUSES = ("unlinked", "linked", "shared", "oversized")
"""Of a device: no valid link; attributed to one person; used by several; in a component so large
that it can't be a person."""
UNLINKED, LINKED, SHARED, OVERSIZED = range(len(STATUSES))

CHANGES = {
    "as_of_date": pl.Date,
    "identifier": pl.String,
    "kind": pl.String,
    "user_id": pl.String,
    "status": pl.String,
}


class Links(NamedTuple):
    """Every pair of a device and an account that was ever linked, as codes, one row a pair.

    ``device[e]``, ``account[e]``: indices into ``devices`` and ``accounts``, which are sorted.
    ``logins``: ordinals of log-in days, ascending, with their pair. ``stated_pair[s]``: the pair
    of a statement that the shop delivered on the days (as ordinals) from ``known_from[s]`` to
    before ``known_until[s]``, and that holds from the day ``stated_since[s]`` on.
    """

    devices: pl.Series
    accounts: pl.Series
    device: Codes
    account: Codes
    login_day: Codes
    login_pair: Codes
    stated_pair: Codes
    stated_since: Codes
    known_from: Codes
    known_until: Codes


class State(NamedTuple):
    """Attribution at the end of a day: for each device the account it belongs to (`NOBODY`: none)
    and its status, for each account the one that stands for the person."""

    device_user: Codes
    device_status: Codes
    account_user: Codes


NEVER = np.iinfo(np.int64).max
ALWAYS = 0


def changes(
    logins: pl.DataFrame,
    statements: pl.DataFrame,
    days: Sequence[date],
    rules: Rules,
    *,
    first: date = date.min,
) -> pl.DataFrame:
    """Whose attribution changes on each of ``days``, against the day before; `CHANGES` columns.

    ``logins``: event_date, device_id, user_id, complete for the ``link_days`` before the first
    day. ``statements``: device_id, user_id, linked_at (null = always), each with the days on which
    the shop states it: known_from (null = ever) to before known_until (null = still), so that
    what is stated first or no longer today changes something today. ``days``: consecutive;
    ``first`` is the first day of all, before which nobody was attributed. The newest change of
    an identifier holds until the next one; an identifier without one is an account that stands
    for itself, or a device that belongs to nobody. Rows of a day depend on log-ins of its last
    ``link_days`` + 1 days and on what was stated on that day and the day before, not on which other
    days are asked for.
    """
    links = _links(logins, statements)
    frames = [pl.DataFrame(schema=CHANGES)]
    before = _nobody(links)
    earlier = [days[0] - timedelta(days=1)] if days[0] > first else []
    for day, state in _states(links, [*earlier, *days], rules):
        if day >= days[0]:
            frames.append(_changed(links, day, before, state))
        before = state
    return pl.concat(frames).sort("as_of_date", "kind", "identifier")


def _nobody(links: Links) -> State:
    """The state in which nothing is linked."""
    devices = np.full(len(links.devices), NOBODY)
    return State(devices, np.full(len(devices), UNLINKED), np.arange(len(links.accounts)))


def _links(logins: pl.DataFrame, statements: pl.DataFrame) -> Links:
    names = ("device_id", "user_id")
    pairs = (
        pl.concat([logins.select(names), statements.select(names)])
        .unique()
        .sort("device_id", "user_id")
        .with_row_index("pair")
        .with_columns(pl.col("pair").cast(pl.Int64))
    )
    devices, accounts = (pairs[name].unique().sort() for name in ("device_id", "user_id"))
    seen = logins.join(pairs, on=["device_id", "user_id"]).sort("event_date")
    stated = statements.join(pairs, on=names).with_columns(
        pl.col("linked_at").dt.date().fill_null(date.min),
        pl.col("known_from").fill_null(date.min),
        pl.col("known_until").fill_null(date.max),
    )
    return Links(
        devices,
        accounts,
        np.asarray(devices.search_sorted(pairs["device_id"]), dtype=np.int64),
        np.asarray(accounts.search_sorted(pairs["user_id"]), dtype=np.int64),
        _ordinals(seen["event_date"]),
        seen["pair"].to_numpy().astype(np.int64),
        stated["pair"].to_numpy().astype(np.int64),
        _ordinals(stated["linked_at"]),
        _ordinals(stated["known_from"]),
        _ordinals(stated["known_until"]),
    )


def _ordinals(days: pl.Series) -> Codes:
    return np.array([day.toordinal() for day in days], dtype=np.int64)


def _states(links: Links, days: Sequence[date], rules: Rules) -> Iterator[tuple[date, State]]:
    last_login = np.full(len(links.device), -NEVER)
    taken = 0
    for day in days:
        known = day.toordinal() + rules.hindsight_days
        upto = int(np.searchsorted(links.login_day, known, side="right"))
        last_login[links.login_pair[taken:upto]] = links.login_day[taken:upto]
        taken = upto
        by_login = last_login > day.toordinal() - rules.link_days
        yield day, _state(links, by_login, _stated_since(links, day.toordinal(), known), rules)


def _stated_since(links: Links, day: int, known: int) -> Codes:
    """For each pair the day from which the shop's statements of ``day`` link it, as far as that is
    no later than ``known``; `NEVER` where they don't."""
    holds = (links.known_from <= day) & (day < links.known_until) & (links.stated_since <= known)
    since = np.full(len(links.device), NEVER)
    np.minimum.at(since, links.stated_pair[holds], links.stated_since[holds])
    return since


def _state(links: Links, by_login: Mask, stated_since: Codes, rules: Rules) -> State:
    """The attribution that the links in force give."""
    by_statement = stated_since < NEVER
    people = _components(links, by_statement)[: len(links.accounts)]
    valid = by_login | by_statement
    shared = _people_on(links, valid, people) > rules.people_per_device
    # Statements make accounts one person also through a device that others use.
    joined = by_statement | (by_login & ~shared[links.device])
    component = _components(links, joined)
    of_account, of_device = np.split(component, [len(links.accounts)])
    size = np.bincount(np.concatenate([of_account, of_device[~shared]]), minlength=len(component))
    oversized = size > rules.identifiers

    first = _first_account(links, stated_since, of_account, len(component))
    account_user = np.where(oversized[of_account], np.arange(len(of_account)), first[of_account])
    attributed = np.zeros(len(links.devices), dtype=bool)
    attributed[links.device[valid]] = True
    status = np.select(
        [~attributed, shared, oversized[of_device]], [UNLINKED, SHARED, OVERSIZED], LINKED
    )
    return State(np.where(status == LINKED, first[of_device], NOBODY), status, account_user)


def _components(links: Links, edges: Mask) -> Codes:
    """The component of each account, then of each device."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes = len(links.accounts) + len(links.devices)
    ends = links.account[edges], links.device[edges] + len(links.accounts)
    graph = coo_array((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _people_on(links: Links, valid: Mask, people: Codes) -> Codes:
    """How many different people are linked to each device."""
    pairs = np.unique(np.stack([links.device[valid], people[links.account[valid]]], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=len(links.devices))


def _first_account(links: Links, stated_since: Codes, of_account: Codes, components: int) -> Codes:
    """The account that stands for each component: the one stated first, then the smallest."""
    since = np.full(len(links.accounts), NEVER)
    np.minimum.at(since, links.account, stated_since)
    order = np.lexsort((np.arange(len(since)), since))[::-1]
    first = np.full(components, NOBODY, dtype=np.int64)
    first[of_account[order]] = order  # The last one written to a component is its smallest.
    return first


def _changed(links: Links, day: date, before: State, now: State) -> pl.DataFrame:
    devices = np.flatnonzero(
        (before.device_user != now.device_user) | (before.device_status != now.device_status)
    )
    accounts = np.flatnonzero(before.account_user != now.account_user)
    merged = now.account_user[accounts] != accounts
    users = np.concatenate([now.device_user[devices], now.account_user[accounts]])
    kept = pl.Series(users, dtype=pl.Int64)
    return pl.DataFrame(
        {
            "identifier": pl.concat(
                [links.devices.gather(devices), links.accounts.gather(accounts)]
            ),
            "kind": ["device"] * len(devices) + ["account"] * len(accounts),
            "user_id": links.accounts.gather(kept.replace(NOBODY, None)),
            "status": [STATUSES[code] for code in now.device_status[devices]]
            + ["merged" if other else "alone" for other in merged],
        },
        schema_overrides={"kind": pl.String, "status": pl.String},
    ).select(pl.lit(day, pl.Date).alias("as_of_date"), pl.all())
