"""`report.html`: the report as one page that needs no network."""

from lockproof.report.html.page import page

__all__ = ["page"]
