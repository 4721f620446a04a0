"""Database URLs: what ``PROMO_SOURCE`` names, and how DuckDB is connected to it.

The password lives in a `SecretStr` and in DuckDB's secret, which is made with a bound parameter:
no statement, plan, message or ``repr`` holds it.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import duckdb
from pydantic import SecretStr

from promo_assets.sources import SourceError, UnreachableError
from promo_assets.sources.dialects import DIALECTS, Dialect

EXPECTED = "expected mysql://USER:PASSWORD@HOST:PORT/DATABASE, or postgresql://… likewise"
OPTION = re.compile(r"[\w./:@+~-]+")
"""Values of options: nothing that a connection string would have to quote."""


@dataclass(frozen=True)
class Address:
    """Where a database is and who reads it; ``options`` are those of DuckDB's connection string."""

    dialect: Dialect = field(repr=False)
    host: str
    port: int
    user: str
    database: str
    password: SecretStr | None
    options: Mapping[str, str]

    @classmethod
    def of(cls, source: str, password: SecretStr | None) -> Address:
        """The address that a URL without its password tells; raises `SourceError`."""
        try:
            parts = urlsplit(source)
            port = parts.port
        except ValueError as error:
            raise SourceError(f"PROMO_SOURCE: not a URL ({error}); {EXPECTED}") from None
        dialect = DIALECTS[parts.scheme]
        database = unquote(parts.path.strip("/"))
        if not database or "/" in database:
            found = "no database" if not database else f"{parts.path.strip('/')!r} as database"
            raise SourceError(f"PROMO_SOURCE={shown(parts)}: {found} is named; {EXPECTED}")
        return cls(
            dialect,
            unquote(parts.hostname or ""),
            port or dialect.port,
            unquote(parts.username or ""),
            database,
            password,
            _options(parts, dialect),
        )

    def __str__(self) -> str:
        at = self.options.get("socket") or self.options.get("host") or f"{self.host}:{self.port}"
        return f"{self.dialect.name}://{self.user and self.user + '@'}{at}/{self.database}"

    @property
    def alias(self) -> str:
        """The name under which it is attached, the same for every connection of a process."""
        return f"source_{hashlib.sha256(str(self).encode()).hexdigest()[:8]}"

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Attach it read-only as `alias`, or make sure that it still answers.

        It stays attached until the DuckDB database is closed: what reads it may run later.
        Raises `UnreachableError` where nobody answers, `SourceError` for everything else.
        """
        load_extension(connection, self.dialect)
        attached = connection.execute(
            "select 1 from duckdb_databases() where database_name = $alias", {"alias": self.alias}
        ).fetchone()
        if attached:
            try:
                connection.execute(
                    f"from {self.dialect.query}('{self.alias}', 'select 1')"
                ).fetchall()
                return
            except duckdb.Error:  # The server was started anew, or its password changed.
                connection.execute(f"detach {self.alias}")
        try:
            for name, value in self.dialect.settings.items():
                connection.execute(f"set global {name} = '{value}'")
            self._keep_secret(connection)
            told = " ".join(f"{key}={value}" for key, value in self.options.items())
            connection.execute(
                f"attach '{told}' as {self.alias} "
                f"(type {self.dialect.secret}, secret {self.alias}, read_only)"
            )
        except duckdb.Error as error:
            raise self.explained(error) from None

    def explained(self, error: duckdb.Error) -> SourceError:
        """What the server or DuckDB said, in one line, with the address and what to do."""
        lines = [line.strip() for line in str(error).splitlines()]
        told = (line for line in lines if line and not line.startswith(("LINE ", "^")))
        said = " ".join(line for line in told if not line.endswith("?"))  # What we ask too.
        if self.password and (secret := self.password.get_secret_value()):
            said = said.replace(secret, "***")
        # DuckDB's own part of it tells the connection string.
        said = re.sub(r'^.*(at|with parameters) ".*?": ', "", said)
        if any(words in said for words in self.dialect.denied):
            return SourceError(
                f"{self}: {said}. Check the user, the password (percent-encoded in PROMO_SOURCE, "
                "or as it is in PROMO_SOURCE_PASSWORD) and the database's name"
            )
        if isinstance(error, duckdb.IOException) and "ssl" not in said.lower():
            return UnreachableError(f"{self}: {said}. Is the server running, and reachable?")
        return SourceError(f"{self}: {said}")

    def _keep_secret(self, connection: duckdb.DuckDBPyConnection) -> None:
        told = {"user": self.user, "database": self.database}
        if self.host:
            told |= {"host": self.host, "port": str(self.port)}
        if "host" in self.options:
            told |= {"port": str(self.port)}  # A socket's name has it.
        if self.password:
            told |= {"password": self.password.get_secret_value()}
        told = {name: value for name, value in told.items() if value}
        connection.execute(
            f"create or replace temporary secret {self.alias} (type {self.dialect.secret}, "
            + ", ".join(f"{name} ${name}" for name in told)
            + ")",
            told,
        )


def shown(parts: SplitResult) -> str:
    """A URL as messages may show it: options may be secrets too."""
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _options(parts: SplitResult, dialect: Dialect) -> dict[str, str]:
    options = dict(dialect.defaults)
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in dialect.options:
            near = difflib.get_close_matches(name, dialect.options, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SourceError(
                f"PROMO_SOURCE={shown(parts)}: unknown option {name!r}; expected one of "
                f"{', '.join(dialect.options)}{hint}"
            )
        if not OPTION.fullmatch(value):
            raise SourceError(
                f"PROMO_SOURCE={shown(parts)}: the value of option {name!r} has characters other "
                "than letters, digits and _ . / : @ + ~ -"
            )
        options[dialect.options[name]] = dialect.values.get(value, value)
    return options


def load_extension(connection: duckdb.DuckDBPyConnection, dialect: Dialect) -> None:
    """Load DuckDB's extension, from its wheel, or else as DuckDB finds or installs it itself.

    Raises `SourceError` that says what to install.
    """
    wheel = _wheel(dialect.package)
    try:
        if wheel:
            connection.execute(f"load '{str(wheel).replace(chr(39), 2 * chr(39))}'")
        else:
            connection.execute(f"install {dialect.secret}; load {dialect.secret}")
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise SourceError(
            f"source {dialect.name} needs DuckDB's extension {dialect.secret} for DuckDB "
            f"{duckdb.__version__} ({reason}): run `make setup`, or `pip install "
            "'promo-assets[databases]'`"
        ) from None


def _wheel(package: str) -> Path | None:
    """The extension's file in its wheel, for this version of DuckDB."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).parent.glob(f"extensions/v{duckdb.__version__}/*.duckdb_extension")
    return next(found, None)
