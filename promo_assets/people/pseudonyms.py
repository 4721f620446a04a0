"""Pseudonyms: what stands for a person or a device everywhere behind the source.

On entry (``raw.events``, ``core.users`` and what else names people) an identifier becomes a keyed
hash; nothing after that ever sees the identifier. The key is a setting and never enters the
warehouse. Without the key a pseudonym can't be computed, so ids can't be guessed back.

Here: the one definition, in Python and in SQL. Not here: which columns hold identifiers.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Literal

Kind = Literal["account", "device"]

PREFIX: Mapping[Kind, str] = {"account": "u", "device": "d"}
"""An account and a device that share an identifier are still two."""

LENGTH = 12
"""Prefix and 66 bits: DuckDB keeps strings of 12 bytes inline, and 10 million people share a
pseudonym with probability 7e-7, 100 million with 7e-5."""

PSEUDONYM = re.compile(rf"u[A-Za-z0-9_-]{{{LENGTH - 1}}}")
"""What an account's looks like."""

BLOCK = 64
SAMPLE_KEY = "the key of public and simulated data"
"""Where nobody real is in the data, everyone gets the same pseudonyms and needs no key."""

PUBLIC_SOURCES = ("complete_journey", "simulated")
SHORTEST_KEY = 16


class PseudonymKeyError(ValueError):
    """There is no usable key; the message says what to do."""


def keys_of(told: str | None, source: str) -> tuple[str, ...]:
    """The current key, then retired ones (which only recognise people who were erased).

    ``told`` is ``PROMO_PSEUDONYM_KEY``, ``source`` is ``PROMO_SOURCE``. Raises
    `PseudonymKeyError` where the key is missing for real data, or too short.
    """
    if told is None:
        if source in PUBLIC_SOURCES:
            return (SAMPLE_KEY,)
        raise PseudonymKeyError(
            "PROMO_PSEUDONYM_KEY is not set: user and device ids of your own events are never "
            "stored, only their keyed hashes. Put a key into .env and keep a copy of it where "
            f"secrets are kept, for example: PROMO_PSEUDONYM_KEY={secrets.token_hex(32)}"
        )
    keys = tuple(key.strip() for key in told.split(","))
    if short := [place for place, key in enumerate(keys, 1) if len(key) < SHORTEST_KEY]:
        raise PseudonymKeyError(
            f"PROMO_PSEUDONYM_KEY: key {short[0]} of {len(keys)} is shorter than {SHORTEST_KEY} "
            "characters; expected one key, or the current key and retired ones with commas between"
        )
    return keys


def pseudonym(identifier: str, kind: Kind, key: str) -> str:
    """``u`` (account) or ``d`` (device) and 11 characters of base64url: the first 66 bits of
    HMAC-SHA256 (RFC 2104) of the identifier under ``key``."""
    digest = hmac.new(key.encode(), identifier.encode(), hashlib.sha256).digest()
    return PREFIX[kind] + base64.urlsafe_b64encode(digest)[: LENGTH - 1].decode()


def pseudonym_sql(column: str, kind: Kind, number: int = 0) -> str:
    """`pseudonym` as a DuckDB expression over a text column; null stays null.

    It reads the parameters of `key_parameters` (of the same ``number``, so that a statement can
    use several keys): the key is bound, never part of a statement.
    """
    inner = f"unhex(sha256($inner_pad{number or ''} || encode({column})))"
    outer = f"to_base64(unhex(sha256($outer_pad{number or ''} || {inner})))"
    return f"'{PREFIX[kind]}' || translate(substr({outer}, 1, {LENGTH - 1}), '+/', '-_')"


def key_parameters(key: str, number: int = 0) -> dict[str, bytes]:
    """The two padded keys of HMAC, as `pseudonym_sql` reads them."""
    told = key.encode()
    padded = (hashlib.sha256(told).digest() if len(told) > BLOCK else told).ljust(BLOCK, b"\0")
    return {
        f"inner_pad{number or ''}": bytes(byte ^ 0x36 for byte in padded),
        f"outer_pad{number or ''}": bytes(byte ^ 0x5C for byte in padded),
    }


def fingerprint(key: str) -> str:
    """8 hexadecimal digits that tell keys apart and give none away."""
    return hmac.new(key.encode(), b"fingerprint of this key", hashlib.sha256).hexdigest()[:8]
