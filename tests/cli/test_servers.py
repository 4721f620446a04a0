"""`promo dev`: both servers answer, on 127.0.0.1 only, and nothing is left after Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from promo_assets.cli.servers import serve
from promo_assets.contract.project import PROJECT
from promo_assets.orchestration.runs import RunError
from promo_assets.settings import Settings
from tests.support.processes import answers, free_port


def listening(port: int) -> set[str]:
    """The addresses on which anybody listens on the port, as the kernel has them."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, found_port = local.rpartition(":")
            if state == "0A" and int(found_port, 16) == port:
                found.add(address)
    return found


def processes(home: Path) -> list[int]:
    """Processes that were started for this home."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
                alive = "\nState:\tZ" not in (entry / "status").read_text()
            except OSError:
                continue
            if alive and f"PROMO_HOME={home}".encode() in environment.split(b"\0"):
                found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's /proc")
def test_dev_serves_both_on_localhost_only_and_leaves_nothing(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    options = ["dev", "--port", str(ports[0]), "--mlflow-port", str(ports[1])]
    process = subprocess.Popen(
        [sys.executable, "-m", "promo_assets.cli.main", *options],
        cwd=PROJECT,
        env={**os.environ, "PROMO_HOME": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert answers(f"http://127.0.0.1:{ports[0]}/server_info", process)
        assert answers(f"http://127.0.0.1:{ports[1]}/health", process)
        assert [listening(port) for port in ports] == [{"0100007F"}, {"0100007F"}]
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    assert code == 0
    until = time.monotonic() + 20
    while processes(tmp_path) and time.monotonic() < until:
        time.sleep(0.5)
    assert processes(tmp_path) == []


def test_a_taken_port_is_told_with_the_option_that_changes_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=rf"port {port} for MLflow is in use.*--mlflow-port"):
            serve(Settings(home=tmp_path), free_port(), port)
