"""The segments that a user can be in, in the order in which people read them."""

SEGMENTS = ("new", "loyal", "promising", "deal_seeker", "at_risk", "one_time", "dormant")
