"""What data must look like: the event contract and the contract of every table.

Here: types, names, reasons, and the files under ``expectations/`` as typed objects.
Not here: anything that reads data, or that knows DuckDB, Great Expectations or Dagster.
"""
