"""Dagster assets: thin shells, one module a group, in the order of the flow.

``table.py`` turns any table (a contract and a way to produce its rows) into an asset that
stages, audits and publishes. The group modules say what each table reads and who produces it.
"""
