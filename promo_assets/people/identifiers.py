"""What an identifier is, as it is delivered: blanks around it are none of it, words for nothing are
nobody, and one that is spelled in several ways becomes one where the shop says so.

On entry every table that names accounts and devices is read through `identifier_sql`, so that they
meet. Here: the one definition, in SQL and in Python. Not here: pseudonyms (``pseudonyms.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

Spelling = Literal["without_decimals", "without_leading_zeros", "lower_case"]
"""How identifiers are made alike: ``142.0`` is 142, ``000007`` is 7, ``Anna`` is anna."""

Spellings = Mapping[str, Sequence[Spelling]]
"""By column, ``user_id`` and ``device_id``."""

WORDS = ("null", "none", "nan", "undefined", "nil", "n/a", "\\n")
NOTHING = (
    *("null", r"\(null\)", "<null>", r"\[null\]", r"\\n", "none", r"\(none\)", "nil", "nan"),
    *("<na>", "undefined", "n/a", "#n/a", r"\(not set\)"),
    r"\{?[0-]{32,36}\}?",  # A UUID of zeros, as phones send that refuse an advertising id.
)
"""What programs write where they have no value, as patterns, whatever their case; `WORDS` are
the commonest."""

TEST = r"(?i)(test|demo|dummy|qa)([-_. ]?(user|account|customer|kunde))?[-_. ]?[0-9]*"
"""How accounts for tests are named."""

BLANK = r"[\s\x{00A0}\x{200B}\x{FEFF}]"
BLANKS = " \t\r\n\f\v\u00a0\u200b\ufeff"
NO_VALUE = f"(?i){BLANK}*({'|'.join(NOTHING)})?{BLANK}*"

SPELLED: Mapping[Spelling, str] = {
    "without_decimals": r"regexp_replace({text}, '^([0-9]+)\.0+$', '\1')",
    "without_leading_zeros": r"regexp_replace({text}, '^0+([0-9])', '\1')",
    "lower_case": "lower({text})",
}


def word_sql(column: str) -> str:
    """Whether a text is one of the commonest words for no value: what is asked of every row."""
    words = ", ".join(f"'{word}'" for word in WORDS)
    return f"(length({column}) <= {max(map(len, WORDS))} and lower({column}) in ({words}))"


def value_sql(column: str) -> str:
    """The text without blanks around it, or null where it is no value, as a DuckDB expression."""
    ends = f"^{BLANK}+|{BLANK}+$"
    trimmed = (
        f"case when regexp_matches({column}, '{ends}') "
        f"then regexp_replace({column}, '{ends}', '', 'g') else {column} end"
    )
    return f"case when regexp_full_match({column}, '{NO_VALUE}') then null else {trimmed} end"


def identifier_sql(column: str, spellings: Sequence[Spelling] = ()) -> str:
    """An identifier as it counts, as a DuckDB expression over a text column; null where it is
    none."""
    text = value_sql(column)
    for one in spellings:
        text = SPELLED[one].format(text=text)
    return text


def test_account_sql(column: str) -> str:
    """The identifier where it is named like an account for tests, else null, in SQL."""
    return f"case when regexp_full_match({column}, '{TEST}') then {column} end"


def identifier(told: str) -> str:
    """An identifier that somebody names, without blanks around it."""
    return told.strip(BLANKS)
