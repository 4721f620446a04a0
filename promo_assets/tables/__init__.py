"""What makes each table: thin producers, one module a group, in the order of the flow.

A producer reads its inputs, calls a room, and returns rows or a select; ``writing.py`` stages,
audits and publishes them. Here: that, and which inputs a table has. Not here: Dagster
(``orchestration/`` makes assets of these tables), and any computation worth a test of its own.
"""
