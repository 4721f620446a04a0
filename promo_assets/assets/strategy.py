"""Group ``strategy``."""
from __future__ import annotations
def tables(contracts, settings):
    return []
