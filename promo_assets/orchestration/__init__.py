"""The only room that knows Dagster: assets, partitions, jobs, conditions, sensors, runs.

Here: what Dagster is asked and told, and how its events reach the disk. Not here: what a table
holds or how it is written (``tables/``).
"""
