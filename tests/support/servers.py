"""A MariaDB and a PostgreSQL of one's own, from Debian's packages: for tests and benchmarks.

Each lives in a folder of its own under the system's temporary folder, listens on a free port of
127.0.0.1 and a socket in that folder, logs every statement that it gets, and ends with whoever
started it. Where root runs this, the servers run as the users that their packages made.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

Kind = Literal["mariadb", "postgresql"]
KINDS: tuple[Kind, ...] = ("mariadb", "postgresql")

PACKAGES: Mapping[Kind, str] = {"mariadb": "mariadb-server", "postgresql": "postgresql"}
BINARIES: Mapping[Kind, Sequence[str]] = {
    "mariadb": ("mariadbd", "mariadb-install-db", "mariadb"),
    "postgresql": ("postgres", "initdb", "psql"),
}
ACCOUNTS: Mapping[Kind, str] = {"mariadb": "mysql", "postgresql": "postgres"}
PLACES = ("/usr/sbin", "/usr/bin", "/usr/local/bin")

NEEDLE = "s3cret"
"""What every way to write `PASSWORD` down has in it."""

USER = "reader"
PASSWORD = "s3cret p@ss/w:rd%'\"\\ 秘密"
"""Every character that a URL, a connection string or SQL treats specially."""

DATABASE = "shop"
START_SECONDS = 60


class ServerError(RuntimeError):
    """A server does not start, or refuses a statement."""


@dataclass(frozen=True)
class Server:
    """A running server with an empty database `DATABASE`, which `USER` may only read."""

    kind: Kind
    folder: Path
    port: int

    @property
    def log(self) -> Path:
        """Every statement that the server got, as it got it."""
        return self.folder / "statements.log"

    @property
    def socket(self) -> Path:
        """Where clients of this machine find it: MariaDB's socket, PostgreSQL's folder of it."""
        return self.folder / "socket" if self.kind == "mariadb" else self.folder

    def url(
        self,
        *,
        password: str = PASSWORD,
        port: int | None = None,
        database: str = DATABASE,
        options: str = "",
    ) -> str:
        """What ``PROMO_SOURCE`` is set to."""
        told = f"{USER}:{quote(password, safe='')}@127.0.0.1:{port or self.port}"
        return f"{self.kind}://{told}/{quote(database)}{options}"

    def execute(self, sql: str, database: str = DATABASE) -> str:
        """Run statements as the server's owner, in UTC; what they print, tabs between columns."""
        command = {
            "mariadb": ["--no-defaults", f"--socket={self.socket}", "--user=root", "--batch",
                        "--skip-column-names", "--default-character-set=utf8mb4",
                        "--local-infile=1", "--init-command=set time_zone = '+00:00'", database],
            "postgresql": ["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-h",
                           str(self.socket), "-p", str(self.port), "-U", "postgres", database],
        }[self.kind]  # fmt: skip
        program = str(_binary(self.kind, BINARIES[self.kind][2]))
        done = subprocess.run(
            [program, *command], input=sql, capture_output=True, text=True, env={"PGTZ": "UTC"}
        )
        if done.returncode:
            raise ServerError(f"{self.kind}: {done.stderr.strip()}")
        return done.stdout

    def empty(self) -> None:
        """Drop every table of `DATABASE`."""
        if self.kind == "mariadb":
            self.execute(f"drop database {DATABASE}; create database {DATABASE}", "mysql")
            return
        self.execute(
            "set client_min_messages = error; drop schema public cascade; create schema public; "
            f"grant usage on schema public to {USER}; "
            f"alter default privileges in schema public grant select on tables to {USER}"
        )

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows that have the same keys."""
        names = ", ".join(rows[0])
        told = ",\n".join(
            f"({', '.join(self._literal(value) for value in row.values())})" for row in rows
        )
        self.execute(f"insert into {table} ({names}) values {told}")

    def _literal(self, value: Any) -> str:
        if value is None:
            return "null"
        if isinstance(value, (bool, int)):
            return str(value).lower()
        text = str(value).replace("'", "''")
        if self.kind == "mariadb":
            text = text.replace("\\", "\\\\")
        return f"'{text}'"

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """The lines that the log gained within the block."""
        lines: list[str] = []
        before = self.log.stat().st_size
        yield lines
        with self.log.open("rb") as log:
            log.seek(before)
            lines += log.read().decode(errors="replace").splitlines()


def missing(kind: Kind) -> str | None:
    """Why the server can't be started here; None where it can."""
    absent = [name for name in BINARIES[kind] if _binary(kind, name) is None]
    if not absent:
        return None
    return f"{kind} is not installed (no {', '.join(absent)}): apt-get install {PACKAGES[kind]}"


@contextmanager
def running(kind: Kind) -> Iterator[Server]:
    """A server with `DATABASE` and `USER`, stopped and removed at the end of the block."""
    if reason := missing(kind):
        raise ServerError(reason)
    folder = Path(tempfile.mkdtemp(prefix=f"promo-{kind}-"))
    server = Server(kind, folder, _free_port())
    process: subprocess.Popen[bytes] | None = None
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, ACCOUNTS[kind], ACCOUNTS[kind])
        _initialise(server)
        process = _start(server)
        _prepare(server)
        yield server
    finally:
        if process is not None:
            process.terminate() if kind == "mariadb" else process.send_signal(3)
            process.wait(START_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def _initialise(server: Server) -> None:
    data = server.folder / "data"
    if server.kind == "mariadb":
        command = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db",
                   "--auth-root-authentication-method=normal", *SMALL_MARIADB]  # fmt: skip
    else:
        command = ["initdb", "-D", str(data), "-U", "postgres", "--auth-local=trust",
                   "--auth-host=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8",
                   "--no-sync"]  # fmt: skip
    done = subprocess.run(_as_owner(server.kind, command), capture_output=True, text=True)
    if done.returncode:
        raise ServerError(f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


SMALL_MARIADB = ("--innodb-log-file-size=16M", "--innodb-buffer-pool-size=128M",
                 "--innodb-flush-log-at-trx-commit=0")  # fmt: skip


def _start(server: Server) -> subprocess.Popen[bytes]:
    data = server.folder / "data"
    if server.kind == "mariadb":
        command = ["mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={server.socket}",
                   f"--port={server.port}", "--bind-address=127.0.0.1", "--general-log=1",
                   f"--general-log-file={server.log}", "--skip-name-resolve", "--local-infile=1",
                   "--character-set-server=utf8mb4", "--default-time-zone=+02:00",
                   f"--pid-file={server.folder / 'pid'}", *SMALL_MARIADB]  # fmt: skip
    else:
        command = ["postgres", "-D", str(data), "-p", str(server.port), "-h", "127.0.0.1",
                   "-k", str(server.folder), "-c", "fsync=off", "-c", "log_statement=all",
                   "-c", "timezone=Asia/Kolkata", "-c", "max_wal_size=1GB",
                   "-c", "shared_buffers=128MB"]  # fmt: skip
    output = server.folder / ("error.log" if server.kind == "mariadb" else server.log.name)
    with output.open("wb") as file:
        process = subprocess.Popen(
            _as_owner(server.kind, command), stdout=file, stderr=file, stdin=subprocess.DEVNULL
        )
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            server.execute("select 1", "mysql" if server.kind == "mariadb" else "postgres")
            return process
        except ServerError:
            time.sleep(0.05)
    process.kill()
    raise ServerError(f"{server.kind} does not start: {output.read_text()[-2000:]}")


def _prepare(server: Server) -> None:
    password = PASSWORD.replace("'", "''")
    if server.kind == "mariadb":
        password = password.replace("\\", "\\\\")
        server.execute(
            f"create database {DATABASE}; create user {USER}@'127.0.0.1' identified by "
            f"'{password}'; create user {USER}@localhost identified by '{password}'; "
            f"grant select on {DATABASE}.* to {USER}@'127.0.0.1'; "
            f"grant select on {DATABASE}.* to {USER}@localhost",
            "mysql",
        )
        return
    server.execute(
        f"set log_statement = 'none'; create role {USER} login password '{password}'; "
        "set log_statement = 'all'",
        "postgres",
    )
    server.execute(f"create database {DATABASE}", "postgres")
    server.empty()


def _as_owner(kind: Kind, command: Sequence[str]) -> list[str]:
    """The command as the package's user where we are root, and never outliving us."""
    program = _binary(kind, command[0])
    assert program is not None
    account = ACCOUNTS[kind]
    owner = ["--reuid", account, "--regid", account, "--init-groups"] if os.geteuid() == 0 else []
    return ["setpriv", "--pdeathsig", "TERM", *owner, program, *command[1:]]


def _binary(kind: Kind, name: str) -> str | None:
    """Debian keeps PostgreSQL's programs out of the path, by version: the newest."""
    folders = list(PLACES)
    if kind == "postgresql":
        versions = Path("/usr/lib/postgresql").glob("*/bin")
        folders = [*map(str, sorted(versions, key=lambda path: -int(path.parent.name))), *folders]
    return shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
