"""The database servers that tests of the database source share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.servers import KINDS, Kind, Server, missing, running


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    yield from _server("mariadb")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    yield from _server("postgresql")


@pytest.fixture(params=[pytest.param(kind, marks=pytest.mark.databases) for kind in KINDS])
def server(request: pytest.FixtureRequest) -> Server:
    """Each kind of server in turn, its database empty."""
    found: Server = request.getfixturevalue(request.param)
    found.empty()
    return found


def _server(kind: Kind) -> Iterator[Server]:
    if reason := missing(kind):
        if os.environ.get("PROMO_REQUIRE_DATABASES"):
            pytest.fail(f"PROMO_REQUIRE_DATABASES is set, but {reason}", pytrace=False)
        pytest.skip(reason)
    with running(kind) as started:
        yield started
