"""The command ``promo``: arguments in, messages and exit codes out.

Here: what a terminal is told. Not here: anything that another program would want to call.
"""
