"""What a run would make of a delivery: its tables of events, written in a home of their own.

The same producers, gates and function (``tables/writing.py``) as a run's, so both say the same. The
home is a temporary folder, which is gone afterwards. Here: that, and what was found. Not here: how
it is told (``check_report.py``).
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.contract.project import SAMPLE_OFFERS
from promo_assets.definitions import build_tables
from promo_assets.gates.audit import Auditor
from promo_assets.gates.verdict import Finding
from promo_assets.people.pseudonyms import PUBLIC_SOURCES
from promo_assets.settings import Settings
from promo_assets.tables.table import ProductionError, Table, WaitingError
from promo_assets.tables.writing import Request, Run, write
from promo_assets.warehouse.publish import PublishError


@dataclass
class Rehearsal:
    """What the gates said: of each table the days held back with their cause (the day `ALWAYS`:
    the whole table) and the findings behind it, what could not be made at all, and what they only
    warn of."""

    held: dict[str, Mapping[date, str]] = field(default_factory=dict)
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    warnings: list[tuple[str, Finding]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not (self.held or self.failed)


def rehearse(told: Settings, first: date, days: Window) -> Rehearsal:
    """Write the tables of events of ``days`` as an installation that starts on ``first`` would, and
    say what its gates find. ``told``: the settings, with the source to be tried."""
    with tempfile.TemporaryDirectory(prefix="promo-check-") as place:
        key = told.pseudonym_key
        if key is None and told.source not in PUBLIC_SOURCES:
            key = SecretStr(secrets.token_hex(32))
        update: dict[str, Any] = {"home": Path(place), "start": first, "pseudonym_key": key}
        if not told.catalogue.exists():
            update["offers"] = SAMPLE_OFFERS  # Events are judged without the shop's own, too.
        return _written(told.model_copy(update=update), days)


def _written(told: Settings, days: Window) -> Rehearsal:
    warehouse = installation.warehouse(told)
    tables = {table.contract.table: table for table in build_tables(told)}
    auditor = Auditor(warehouse, None)
    run = Run("rehearsal", told.start, lambda line: None, tables)
    found = Rehearsal()
    for table in _in_order(tables):
        window = days if table.contract.window else None
        name = table.contract.table
        try:
            written = write(table, Request(window), run, warehouse, auditor)
        except WaitingError as error:
            if found.passed:  # Else it waits for what is told.
                found.failed[name] = str(error)
            continue
        except (ProductionError, PublishError) as error:
            found.failed[name] = str(error)
            continue
        if written.blocked:
            found.held[name] = written.blocked
            found.findings[name] = [
                one for one in written.verdict.failed if one.severity == "critical"
            ]
        found.warnings += [
            (name, one) for one in written.verdict.failed if one.severity == "warning"
        ]
    return found


def _in_order(tables: Mapping[str, Table]) -> list[Table]:
    """The tables of events that a run writes, inputs first."""
    events = {name: table for name, table in tables.items() if table.group == "events"}
    graph = {
        name: {*table.inputs, *table.whole} & events.keys() - {name}
        for name, table in events.items()
    }
    return [events[name] for name in TopologicalSorter(graph).static_order()]
