"""`execution bench`: how fast this machine runs executions, each figure beside a hand-written floor of the same run."""

from execution.bench.measures import FULL, QUICK, Extent, Figures, measure

__all__ = ["FULL", "QUICK", "Extent", "Figures", "measure"]
