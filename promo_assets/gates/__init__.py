"""The gate in front of every table: suites, audits of staged slices, Data Docs.

Here: turning a contract into a Great Expectations suite, running it on DuckDB, saying what failed
on which days. Not here: what happens then (assets), or the contracts themselves (contract).
"""
