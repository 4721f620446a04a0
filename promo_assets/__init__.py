"""Personalised promotions as a Dagster data platform: events in, audited strategies out."""

import os

# Before NumPy is loaded: its matrices are small here, and OpenBLAS's threads wait for each other
# by spinning, which made fits of four parameters ten times as slow. Sums are then also the same
# on any number of cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
