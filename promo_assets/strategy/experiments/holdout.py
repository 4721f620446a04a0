"""Who is held out: a draw from a hash, so that it needs no state and never changes.

Here: uniform draws by user and salt. The salt names the experiment; a new salt is a new draw.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import numpy as np
import numpy.typing as npt

SCALE = 2.0**-53


def draws(user_ids: Iterable[str], salt: str) -> npt.NDArray[np.float64]:
    """One number in [0, 1) a user: the first 53 bits of SHA-256 of ``salt|user``.

    Equal in every process and on every machine, whatever the order of users. Draws of different
    salts are independent. Raises ValueError for a salt that holds ``|``, which separates.
    """
    if "|" in salt:
        raise ValueError(f"salt {salt!r} holds '|', which separates it from the user; remove it")
    prefix = f"{salt}|"
    first_bytes = b"".join(sha256((prefix + user).encode()).digest()[:8] for user in user_ids)
    bits = np.frombuffer(first_bytes, dtype=">u8")
    return (bits >> np.uint64(11)).astype(np.float64) * SCALE


def is_held_out(user_ids: Iterable[str], salt: str, share: float) -> npt.NDArray[np.bool_]:
    """Whether each user is in the holdout of experiment ``salt``, with probability ``share``.

    A larger share under the same salt keeps everyone who was held out before.
    Raises ValueError unless 0 <= share < 1.
    """
    if not 0 <= share < 1:
        raise ValueError(f"holdout share {share} found, expected 0 <= share < 1")
    return draws(user_ids, salt) < share
