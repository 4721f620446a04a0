"""The DuckDB warehouse: its connection, the one write path, and SQL models.

Here: opening the file, staging, publishing, what has been published, parsing ``dbt_like_sql/``.
Not here: what a table means (contract), whether a slice is good (gates), who asks (assets).
"""
