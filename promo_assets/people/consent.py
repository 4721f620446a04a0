"""Who may get an offer: what people allowed, and which account stands for them.

An identifier (an account or a device) states consent for a purpose, until its next statement. A
person's accounts and devices may disagree; the stricter wins: one refusal outweighs any grant.
Here: the SQL that decides it for each user and day. Not here: who belongs to whom
(``identity.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CONSENT = "consent"
MERGED = "merged"
BARRED = (CONSENT, MERGED)
"""Why a user may get no offer at all: no consent to all that `PROMO_CONSENT_PURPOSES` names, or
another account stands for the same person."""


@dataclass(frozen=True)
class ConsentRule:
    """Which ``purposes`` an offer needs, and whether silence allows it."""

    purposes: tuple[str, ...]
    unknown_allowed: bool

    @property
    def parameters(self) -> dict[str, Any]:
        """What `barred_sql` reads besides its bounds."""
        return {"purposes": list(self.purposes), "unknown_allowed": self.unknown_allowed}


ATTRIBUTIONS = """
changes as (
    select
        identifier,
        kind,
        user_id,
        as_of_date as valid_from,
        coalesce(
            lead(as_of_date) over (partition by identifier order by as_of_date), $end
        ) as valid_until
    from core.identities
    where as_of_date < $end
),
owners as (
    select identifier, user_id, valid_from, valid_until from changes where user_id is not null
    union all
    select distinct identifier, identifier, date '0001-01-01', $end
    from core.consents
    where kind = 'account'
)"""

SAID = """
days as (
    select day from core.calendar where day >= $start and day < $end
),
said as (
    -- The last word of each identifier while it was the person's, as of each day.
    select
        days.day,
        owners.user_id,
        owners.valid_until > days.day as is_still_theirs,
        arg_max(consents.granted, (consents.since, not consents.granted)) as granted,
        consents.purpose
    from days
    inner join owners on owners.valid_from <= days.day
    inner join core.consents as consents
        on consents.identifier = owners.identifier
        and consents.since < days.day + interval 1 day
        and consents.since < owners.valid_until
    where list_contains($purposes, consents.purpose)
    group by
        days.day, owners.user_id, owners.identifier, owners.valid_from, owners.valid_until,
        consents.purpose
),
decided as (
    -- A refusal outlives the link by which it was made; a grant does not.
    select day, user_id, purpose, bool_and(granted) as granted
    from said
    where is_still_theirs or not granted
    group by day, user_id, purpose
),
allowed as (
    select
        day,
        user_id,
        bool_or(not granted) as is_refused,
        count(*) filter (where granted) = len($purposes) as is_granted
    from decided
    group by day, user_id
),
merged as (
    select days.day, changes.identifier as user_id
    from days
    inner join changes on changes.valid_from <= days.day and changes.valid_until > days.day
    where changes.kind = 'account' and changes.user_id <> changes.identifier
)"""

BARRED_SQL = (
    f"with {ATTRIBUTIONS.strip()},{SAID}"
    + """
select
    users.as_of_date,
    users.user_id,
    case
        when merged.user_id is not null then 'merged'
        when coalesce(allowed.is_refused, false) then 'consent'
        when not coalesce(allowed.is_granted, false) and not $unknown_allowed then 'consent'
    end as barred
from ({users}) as users
left join allowed on allowed.day = users.as_of_date and allowed.user_id = users.user_id
left join merged on merged.day = users.as_of_date and merged.user_id = users.user_id
"""
)


def barred_sql(users: str) -> str:
    """A select of as_of_date, user_id and ``barred`` (one of `BARRED`, or null: may get offers).

    ``users`` is a select of as_of_date and user_id. Reads the parameters ``$start`` and ``$end``
    and those of `ConsentRule`. A day's answer needs statements and attributions of that day
    or before: it is the same whenever it is asked.
    """
    return BARRED_SQL.replace("{users}", users)
