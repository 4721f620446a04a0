"""When accounts and devices belong to one person: the rules that ``identity.py`` applies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """When links make a person.

    ``link_days``: a log-in counts for so many days, its own included. ``people_per_device``: more
    people than that on a device quarantine it. ``identifiers``: a component with more accounts
    and devices than that is taken apart. ``hindsight_days``: log-ins up to so many days after a
    day count for it too; above 0 a day's attribution is no longer what was known that day.
    """

    link_days: int = 180
    people_per_device: int = 1
    identifiers: int = 20
    hindsight_days: int = 0
