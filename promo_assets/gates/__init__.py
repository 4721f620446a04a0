"""The data-quality gate: is a staged slice good enough to publish, and if not, which days?

Here: a table's contract as a suite, the audit of a staged slice by Great Expectations inside
DuckDB, its verdict, and Data Docs.
Not here: what a table must look like (``expectations/``, contract) and what a verdict leads to
(warehouse, assets).
"""
