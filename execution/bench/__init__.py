"""`execution bench`: how fast this machine runs executions, each figure beside a hand-written floor of the same run."""

from execution.bench.figures import FULL, QUICK, Extent, Figures
from execution.bench.measures import measure, own_server

__all__ = ["FULL", "QUICK", "Extent", "Figures", "measure", "own_server"]
