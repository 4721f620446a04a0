"""``promo dev``: the Dagster UI with its daemon and the MLflow UI, on 127.0.0.1 only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

from promo_assets.contract.project import WORKSPACE
from promo_assets.orchestration.runs import RunError, prepare_home
from promo_assets.settings import Settings

HOST = "127.0.0.1"
STOP_SECONDS = 10


def serve(settings: Settings, port: int, mlflow_port: int) -> int:
    """Run the three servers until one ends or the user stops them; return the exit code.

    Raises `RunError` when a port is taken.
    """
    prepare_home(settings.places)
    _free("Dagster", port, "--port")
    _free("MLflow", mlflow_port, "--mlflow-port")
    settings.places.model_store.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    workspace = str(WORKSPACE)
    commands = [
        [sys.executable, "-m", "dagster_webserver", "-h", HOST, "-p", str(port), "-w", workspace],
        [sys.executable, "-m", "dagster._daemon", "run", "-w", workspace],
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            HOST,
            "--port",
            str(mlflow_port),
            "--backend-store-uri",
            settings.places.tracking_uri,
            "--artifacts-destination",
            str(settings.places.model_store),
            "--workers",
            "1",
        ],
    ]
    print(f"Dagster  http://{HOST}:{port}\nMLflow   http://{HOST}:{mlflow_port}\nStop with Ctrl-C")
    # Each in a group of its own, so that stopping reaches the workers that they start.
    running = [subprocess.Popen(command, start_new_session=True) for command in commands]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while all(process.poll() is None for process in running):
            time.sleep(0.5)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(running)


def _free(name: str, port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise RunError(
                f"port {port} for {name} is in use; stop what uses it or choose another with"
                f" {option}"
            ) from error


def _stop(running: list[subprocess.Popen[bytes]]) -> None:
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
    for process in running:
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
