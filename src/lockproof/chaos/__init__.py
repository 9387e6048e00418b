"""Faults: what is done to a backend under test, and how it is undone."""
