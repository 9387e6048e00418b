"""A history as a picture: one page that stands alone, or an SVG of what proves the violation."""

from lockproof.report.timeline.page import page
from lockproof.report.timeline.picture import picture

__all__ = ["page", "picture"]
