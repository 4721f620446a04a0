"""SQL models: their headers, dependencies, lineage, and translation to Spark.

Here: text of SQL as parsed by sqlglot. Not here: running it (``tables/``).
"""
