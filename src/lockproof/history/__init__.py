"""Histories: what every client asked for and was answered, in the order it happened."""

from lockproof.history.event import Event, History, Operation, pair
from lockproof.history.merge import merge_histories
from lockproof.history.reader import HistoryError, HistoryStream, read_history, stream_history
from lockproof.history.writer import HistoryWriter

__all__ = [
    "Event",
    "History",
    "HistoryError",
    "HistoryStream",
    "HistoryWriter",
    "Operation",
    "merge_histories",
    "pair",
    "read_history",
    "stream_history",
]
