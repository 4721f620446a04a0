"""Ctrl-C ends a command within seconds, with one line and exit code 130."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from promo_assets.orchestration.runs import open_instance

if TYPE_CHECKING:
    from tests.support.shop import Shop

LINE = "promo: stopped; what was published before stays published"
BLOCKED = """
import signal, sys, time
from promo_assets.cli.stopping import stoppable

with stoppable(lambda: print("ended", flush=True), grace=0.5):
    {work}
"""
LISTENING = "print('working', flush=True); time.sleep(600)"
DEAF = f"signal.signal(signal.SIGINT, lambda *_: None); {LISTENING}"
"""Work that takes the interrupt for something else."""
PROMO = "import sys; from promo_assets.cli.main import main; sys.exit(main())"


@pytest.mark.parametrize(
    ("work", "told", "code"),
    [(LISTENING, [], 1), (DEAF, ["ended"], 130)],
)
def test_work_is_asked_to_end_and_ended_where_it_does_not_listen(
    work: str, told: list[str], code: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BLOCKED.format(work=work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert out.split() == told
    if code == 130:
        assert (process.returncode, err.strip()) == (130, LINE)
    else:
        assert "KeyboardInterrupt" in err


@pytest.mark.slow
def test_a_stopped_run_says_one_line_and_is_cancelled(new_shop: Shop) -> None:
    new_shop.deliver_all(14)
    days = ("--from", str(new_shop.day(0)), "--to", str(new_shop.day(13)))
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROMO, "run", *days],
        env=new_shop.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.split()[:4] == ["items,", "users,", "offers", "1/9"]
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 15
    assert (process.returncode, err.strip()) == (130, LINE)
    with open_instance(new_shop.settings.places) as instance:
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.CANCELED}
