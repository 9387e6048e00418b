"""Histories: what every client asked for and was answered, in the order it happened."""

from lockproof.history.event import Event, History, Operation, pair
from lockproof.history.reader import HistoryError, read_history
from lockproof.history.writer import HistoryWriter

__all__ = ["Event", "History", "HistoryError", "HistoryWriter", "Operation", "pair", "read_history"]
