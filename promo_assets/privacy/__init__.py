"""What must not be kept: erasure of a person, removal by age, and the search of files for names.

Here: everything that deletes for people's sake, and the proof that it is gone. Not here: when
removal by age runs (``orchestration/``), and who somebody is (``people/``).
"""
