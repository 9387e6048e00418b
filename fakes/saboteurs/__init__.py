"""Backends that are broken in exactly one way each, and correct ones that look unusual.

Every module of this package may define `SABOTEURS` and `VARIANTS`; see `catalogue`.
"""
