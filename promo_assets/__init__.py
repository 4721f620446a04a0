"""Personalised promotions as a Dagster data platform: events in, audited strategies out."""

import os

# Before NumPy and LightGBM are loaded. Threads of OpenBLAS and OpenMP wait for each other by
# spinning: with anything else at work on the machine a training took ten times as long, a fit of
# four parameters even without. OpenBLAS's matrices are small here; with one thread their sums are
# also the same on any number of cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
