"""Which users are held out, and with which probability.

Here: draws that can be repeated. Not here: what the experiment found (``effects/``).
"""
