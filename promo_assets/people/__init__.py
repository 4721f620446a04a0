"""Who somebody is, and what they allowed.

Here: pseudonyms of delivered ids, the people behind accounts and devices, consent. Pure: values
in, values or SQL text out. Not here: forgetting somebody (``privacy/``), and reading a table.
"""
