"""Ctrl-C while something long works: it ends within seconds, whatever it is doing.

A library's long call (a query, a training) may not look at signals, and Dagster takes an interrupt
for a step's failure: so another thread sees the signal, and ends the process where the work doesn't
end by itself. Nothing is lost by that: what is published is published in whole transactions, as
after a SIGKILL.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPPED = "promo: stopped; what was published before stays published"
CODE = 130
GRACE_SECONDS = 4.0
"""How long the work has to end by itself."""
LOOK_SECONDS = 0.2


@contextmanager
def stoppable(
    end: Callable[[], None], grace: float = GRACE_SECONDS
) -> Iterator[Callable[[], bool]]:
    """Within the block Ctrl-C raises KeyboardInterrupt in the main thread; where that does not end
    the block within ``grace`` seconds, another thread calls ``end``, says so and exits with 130.

    The block gets a function that tells whether it is to stop.
    """
    over = threading.Event()
    # Python writes to the pipe as the signal arrives, whatever the main thread is doing.
    read, write = os.pipe()
    os.set_blocking(write, False)

    def stopped(within: float = 0) -> bool:
        return bool(select.select([read], [], [], within)[0])

    def watch() -> None:
        while not stopped(LOOK_SECONDS):
            if over.is_set():
                return
        if not over.wait(grace):
            end()
            print(f"\n{STOPPED}", file=sys.stderr, flush=True)
            os._exit(CODE)

    # A shell's background job ignores the signal, which would then never arrive.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    watching = threading.Thread(target=watch, name="stopping", daemon=True)
    watching.start()
    try:
        yield stopped
    finally:
        over.set()
        watching.join()
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGINT, handler)
        os.close(read)
        os.close(write)
