"""Playing a shop into a folder: many days at once, or one more day with the platform's offers."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from promo_assets.people.pseudonyms import pseudonym
from promo_assets.simulation import mess, registers, truth
from promo_assets.simulation.assortment import Assortment
from promo_assets.simulation.behaviour import Shop, play, returned, sent
from promo_assets.simulation.calendar import Calendar
from promo_assets.simulation.campaigns import Draw, Policy, draw, is_campaign_day
from promo_assets.simulation.expected import Baskets
from promo_assets.simulation.folder import (
    Manifest,
    Options,
    SimulationError,
    refuse_strangers,
    replace_text,
    replaced,
    write,
)
from promo_assets.simulation.happenings import Orders, Sends
from promo_assets.simulation.offers import OFFER_IDS
from promo_assets.simulation.people import count, people
from promo_assets.simulation.rows import Day, account_ids, frames, order_number
from promo_assets.simulation.state import State

CHUNK = 65_536
"""People played at once: their arrays stay in the processor's cache."""
WRITERS = 2
AHEAD = 3
"""Days that may wait to be written: bounds memory."""

MOST_DAYS = 10_000
"""Days are kept in 16 bits, some of them relative to later ones."""

Tell = Callable[[date, int], None]
"""Called after each day is played, with its rows."""


def simulate(
    options: Options, days: int, folder: Path, tell: Tell | None = None, chunk: int = CHUNK
) -> Manifest:
    """Play ``days`` days of a new shop into ``folder``, which appears when all is written.

    Raises `SimulationError` where ``folder`` holds anything but an older simulation, and for more
    days than can be counted.
    """
    refuse(options, days, folder)
    with replaced(folder) as making:
        simulation = Simulation(options, making, chunk)
        simulation.play(days, tell)
        return simulation.manifest


@dataclass(frozen=True)
class Step:
    """What one day under the platform's assignments came to."""

    day: date
    draw: Draw | None
    offers: int
    """Assignments that were sent."""
    withheld: int
    unknown: int
    """Assignments of users or offers that the shop doesn't know: nothing happened to them."""
    rows: int = 0


def refuse(options: Options, days: int, folder: Path) -> None:
    """Raise `SimulationError` where `simulate` can't or must not begin."""
    room = min((date.max - options.start).days, MOST_DAYS)
    if days > room:
        raise SimulationError(f"{days} days from {options.start} are too many: at most {room}")
    refuse_strangers(folder)


class Simulation:
    """A shop and the folder that it is played into."""

    def __init__(self, options: Options, folder: Path, chunk: int = CHUNK) -> None:
        self.options, self.folder, self.chunk = options, folder, chunk
        self.manifest = Manifest(options, 0, 0, {}, 0, ())
        self.calendar = Calendar(options.start)
        self.assortment = Assortment(options.seed)
        self.baskets = Baskets(self.assortment)
        self.state = State.new(0)
        self.returns = Orders.none()

    @classmethod
    def open(cls, folder: Path, chunk: int = CHUNK) -> Simulation:
        """Continue the shop of ``folder``. Raises `SimulationError` where there is none."""
        manifest = Manifest.read(folder)
        simulation = cls(manifest.options, folder, chunk)
        simulation.manifest = manifest
        kept = folder / "state"
        try:
            records = pl.read_parquet(kept / f"people-{manifest.days}.parquet")
            returns = pl.read_parquet(kept / f"returns-{manifest.days}.parquet")
        except (OSError, pl.exceptions.PolarsError) as error:
            raise SimulationError(
                f"{kept}: the state after day {manifest.days} can't be read; simulate again"
            ) from error
        arrays = {name: records[name].to_numpy().copy() for name in records.columns}
        level = np.zeros(records.height, np.float32)
        simulation.state = State(level=level, **arrays)
        simulation.returns = Orders(*(returns[name].to_numpy() for name in Orders.names()))
        return simulation

    @property
    def next_date(self) -> date:
        """The day that will be played next."""
        return self.calendar.date(self.manifest.days)

    def play(self, days: int, tell: Tell | None = None) -> None:
        """Play the next ``days`` days under the simulation's own campaigns."""
        self._play(days, None, tell, policy=self.options.assignment)

    def step(self, assignments: pl.DataFrame | None, key: str, campaign: str) -> Step:
        """Play the next day with the platform's offers, and no campaigns of the shop's own.

        ``assignments``: user_id (pseudonyms under ``key``), offer_id, arm (offer, holdout or
        none) and assignment_probability; None = a day without offers. ``campaign`` becomes the
        events' campaign_id.
        """
        first = self.manifest.days
        self._grow(first + 1)
        matched = self._matched(assignments, key, campaign)
        rows = self._play(1, matched.draw, None, policy="none")
        return replace(matched, rows=rows)

    def _matched(self, assignments: pl.DataFrame | None, key: str, campaign: str) -> Step:
        """The assignments as sends to the shop's own accounts."""
        if assignments is None:
            return Step(self.next_date, None, 0, 0, 0)
        wanted = assignments.filter(pl.col("arm") != "none")
        accounts = self._accounts(key)
        offers = pl.DataFrame({"offer_id": OFFER_IDS, "offer": range(len(OFFER_IDS))})
        found = wanted.join(accounts, on="user_id").join(offers, on="offer_id", how="left")
        # Only a withheld offer may be unnamed: several competed.
        found = found.filter(
            pl.col("offer").is_not_null()
            | ((pl.col("arm") == "holdout") & pl.col("offer_id").is_null())
        ).sort("account")
        account = found["account"].to_numpy()
        probability = found["assignment_probability"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        sends = Sends(
            person=account // 2,
            account=account,
            offer=found["offer"].fill_null(-1).cast(pl.Int64).to_numpy(),
            sent=(found["arm"] == "offer").to_numpy(),
            campaign=np.zeros(len(account), np.int64),
            probability=probability,
        )
        nobody = np.empty(0, np.int64)
        drawn = Draw(sends, probability, (campaign,), nobody, nobody.astype(np.float64))
        offered = int(sends.sent.sum())
        unknown = wanted.height - found.height
        return Step(
            self.next_date,
            drawn if found.height else None,
            offered,
            found.height - offered,
            unknown,
        )

    def _accounts(self, key: str) -> pl.DataFrame:
        """Pseudonyms and numbers of the accounts that exist."""
        known = np.flatnonzero(self.people.signup < self.manifest.days)
        account = np.concatenate([known * 2, known[self.people.accounts[known] == 2] * 2 + 1])
        ids = account_ids(account)[:-1]
        names = [pseudonym(name, "account", key) for name in ids]
        return pl.DataFrame(
            {"user_id": names, "account": account}, schema_overrides={"user_id": pl.String}
        )

    def _grow(self, days: int) -> None:
        """Get to know everyone who will have come by the last of ``days`` days."""
        options = self.options
        size = count(options.users, days - 1)
        self.people = people(options.seed, options.users, 0, size, self.assortment)
        if len(self.state) < size:
            self.state = self.state.grown(size)
        first = self.manifest.days
        self.state.level[:] = self.people.level(first)

    def _play(self, days: int, given: Draw | None, tell: Tell | None, *, policy: Policy) -> int:
        """Play and write ``days`` days: with ``given``, or with campaigns by ``policy``."""
        first = self.manifest.days
        self._grow(first + days)
        tally, written = truth.Tally(), 0
        with ThreadPoolExecutor(WRITERS) as writers:
            waiting: deque[Future[tuple[mess.Record, ...]]] = deque()
            for number in range(first, first + days):
                day = self._day(number, given, policy)
                tally.add(day, self.assortment, self.calendar)
                while len(waiting) >= AHEAD:
                    tally.accounts += waiting.popleft().result()
                waiting.append(writers.submit(self._write_day, day, self.manifest.campaigns))
                written += len(day)
                if tell:
                    tell(day.on, len(day))
            for writing in waiting:
                tally.accounts += writing.result()
        tally.write(self.folder, self.calendar.date(first))
        self._close(first, days, tally)
        return written

    def _day(self, number: int, given: Draw | None, policy: Policy) -> Day:
        shop = Shop(self.options.seed, self.calendar, self.assortment, number)
        here = count(self.options.users, number)
        everyone, state = self.people.part(0, here), self.state.chosen(slice(0, here))
        changed = everyone.changes(number)
        state.level[changed] = everyone.level(number, changed)
        on = self.calendar.date(number)
        others = [returned(self._due(number), shop)]
        warm_up = self.options.warm_up
        drawn = given or draw(policy, everyone, state, number, on, warm_up)
        if drawn or is_campaign_day(number, warm_up):
            truth.write_expectations(
                self.folder, on, state, everyone, number, self.calendar, self.baskets
            )
        if drawn:
            others.append(sent(self._send(drawn, number, on), shop))
        parts, coming = [], []
        offset = 0
        for start in range(0, here, self.chunk):
            end = min(start + self.chunk, here)
            visits, events, back = play(
                shop, everyone.part(start, end), state.chosen(slice(start, end))
            )
            back = replace(back, order=order_number(number, back.order + offset))
            offset += len(visits.person)
            parts.append((visits, events))
            coming.append(back)
        self.returns = Orders.joined([self.returns, *coming])
        return Day.of(number, on, parts, others)

    def _due(self, number: int) -> Orders:
        """Take the lines that come back on day ``number`` out of those that will."""
        due = self.returns.due == number
        today, self.returns = self.returns.chosen(due), self.returns.chosen(~due)
        return today

    def _send(self, drawn: Draw, number: int, on: date) -> Sends:
        """Note the sends of the day, and their truth; campaigns get their numbers for good."""
        truth.write_sends(
            self.folder, drawn, on, self.state, self.people, number, self.calendar, self.baskets
        )
        known = len(self.manifest.campaigns)
        self.manifest = replace(
            self.manifest, campaigns=(*self.manifest.campaigns, *drawn.campaigns)
        )
        sends = replace(drawn.sends, campaign=drawn.sends.campaign + known)
        self.state.send(sends, self.people, number)
        return sends

    def _write_day(self, day: Day, campaigns: Sequence[str]) -> tuple[mess.Record, ...]:
        """Write the files that deliver ``day``; what became of its rows. Files that come on a later
        day wait for it in ``state/late``."""
        options = self.options
        place = self.folder / "events" / str(day.on)
        shutil.rmtree(place, ignore_errors=True)
        told = frames(day, self.assortment, campaigns)
        if options.mess == "none":
            delivery = mess.clean(day, told)
        else:
            delivery = mess.messed(
                day, told, options.seed, options.mess, options.start, options.users, self.assortment
            )
        late = self.folder / "state" / "late"
        for part in delivery.parts:
            where = place if part.on == day.on else late / str(part.on)
            path = where / f"{part.on}-{part.name}.{options.format}"
            write(part.rows, path)
            if part.kept < 1:
                os.truncate(path, int(part.kept * path.stat().st_size))
        return delivery.account

    def _deliver_late(self, last: int) -> list[Path]:
        """Copy what was late into the day it is delivered on; the folders it waited in."""
        arrived = []
        for place in sorted((self.folder / "state" / "late").glob("*")):
            if place.name <= str(self.calendar.date(last)):
                shutil.copytree(place, self.folder / "events" / place.name, dirs_exist_ok=True)
                arrived.append(place)
        return arrived

    def _close(self, first: int, days: int, tally: truth.Tally) -> None:
        """Write what stands at the end of the last day; the manifest, last, makes it count."""
        options, folder, people_ = self.options, self.folder, self.people
        last = first + days - 1
        tables = {
            "items": self.assortment.frame(last),
            "users": registers.users(people_, options.start, last),
            "identities": registers.identities(people_, options.start, last),
            "consents": registers.consents(people_, options.start, last),
        }
        for name, frame in tables.items():
            write(frame, folder / f"{name}.{options.format}")
        if first == 0:
            started = people_.part(0, options.users)
            text = registers.catalogue(started, self.calendar, self.baskets)
            replace_text(folder / "offers.yaml", text)
        truth.write_people(folder, people_, self.assortment, options.mess)
        delivered = truth.write_mess(folder, options, self.calendar.date(last))
        arrived = self._deliver_late(last)
        kept = folder / "state"
        write(self.state.frame().drop("level"), kept / f"people-{last + 1}.parquet")
        write(self.returns.frame(), kept / f"returns-{last + 1}.parquet")
        rows = tally.rows
        total = {name: self.manifest.rows.get(name, 0) + rows[name] for name in sorted(rows)}
        self.manifest = replace(
            self.manifest, days=last + 1, people=len(people_), rows=total, delivered=delivered
        )
        self.manifest.write(folder)
        for place in arrived:
            shutil.rmtree(place)
        for path in kept.glob("*.parquet"):
            if not path.stem.endswith(f"-{last + 1}"):
                path.unlink()
