"""How a delivered text is read as a moment or as a number, as SQL expressions.

A value is read as what it says or not at all: no offset is dropped, no separator guessed. What
can't be read stays as it was delivered, so that the gates can name it. Here: the expressions. Not
here: which column is which (``mapping.py``).
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DATE = r"\d{4}[-/]\d\d?[-/]\d\d?"
CLOCK = r"[T ]\d\d?:\d\d(?::\d\d(?:\.\d{1,9})?)?"
OFFSET = r"Z|UTC|GMT|[+-]\d\d(?::?\d\d(?::?\d\d)?)?"
WITHOUT_OFFSET = rf"(?i){DATE}(?:{CLOCK})?"
WITH_OFFSET = rf"(?i)({DATE}{CLOCK}) *({OFFSET})"

BLANK = r"[\s\x{00A0}\x{2007}\x{202F}]"
"""Blanks as programs write them, also between thousands: those that don't break a line, too."""


class NumberFormat(BaseModel):
    """How amounts and quantities are written: ``1.214,50 €`` is ``{decimal: ",", thousands: ".",
    currency: "€"}``. A text that is not written so is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decimal: Literal[".", ","] = "."
    thousands: Literal["", ".", ",", " ", "'"] = ""
    currency: str = Field(default="", max_length=5, pattern=r"^[^\d\s.,+\-\u2212%]*$")

    @model_validator(mode="after")
    def _told_apart(self) -> NumberFormat:
        if self.decimal == self.thousands:
            raise ValueError("thousands should differ from decimal")
        return self

    def sql(self, text: str) -> str:
        """The number with a decimal point and nothing else. What is not written so must not be
        read otherwise by a later cast: it gets a word that says why."""
        told = _trimmed(text)
        if self.currency:
            told = _trimmed(f"replace({told}, {literal(self.currency)}, '')")
        between = BLANK if self.thousands == " " else f"[{self.thousands}]"
        groups = rf"|[+-]?\d{{1,3}}({between}\d{{3}})+" if self.thousands else ""
        number = rf"([+-]?\d+{groups})([{self.decimal}]\d+)?"
        plain = f"regexp_replace({told}, {literal(between)}, '', 'g')" if self.thousands else told
        if self.decimal == ",":
            plain = f"replace({plain}, ',', '.')"
        fits = f"regexp_full_match({told}, {literal(number)})"
        return f"case when {fits} then {plain} else {text} || ' (not as number_format)' end"


def _trimmed(text: str) -> str:
    return f"regexp_replace({text}, '^{BLANK}+|{BLANK}+$', '', 'g')"


def moment_sql(text: str, zone: str) -> str:
    """An ISO moment in UTC: by its offset, else in ``zone``; null where it is none. Years have four
    digits, and whatever stands behind the time must be an offset. Fractions may follow a comma."""
    told = f"replace(trim({text}), ',', '.')"
    base = f"try_cast(regexp_extract({told}, '{WITH_OFFSET}', 1) as timestamp)"
    offset = f"regexp_extract({told}, '{WITH_OFFSET}', 2)"
    digits = f"rpad(regexp_replace({offset}, '[^0-9]', '', 'g'), 6, '0')"
    seconds = " + ".join(
        f"{unit} * cast(substr({digits}, {start}, 2) as integer)"
        for start, unit in ((1, 3600), (3, 60), (5, 1))
    )
    sign = f"case when starts_with({offset}, '-') then 1 else -1 end"
    return (
        f"case when regexp_full_match({told}, '{WITHOUT_OFFSET}') "
        f"then {to_utc(f'try_cast({told} as timestamp)', zone)} "
        f"when regexp_full_match({told}, '{WITH_OFFSET}') and {seconds} < 57600 "
        f"then {base} + to_seconds({sign} * ({seconds})) end"
    )


def to_utc(timestamp: str, zone: str) -> str:
    """A timestamp without offset, told in ``zone``."""
    return (
        timestamp if zone == "UTC" else f"timezone('UTC', timezone({literal(zone)}, {timestamp}))"
    )


def literal(text: str | None) -> str:
    return "null" if text is None else "'" + text.replace("'", "''") + "'"
