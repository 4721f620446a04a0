"""The offers there are, and who may get which.

Here: the catalogue that merchandisers edit, and the conditions it sets. Not here: what an offer
is worth (``effects/``) and who gets one (``allocation/``).
"""
