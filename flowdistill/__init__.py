"""Distils flow models into flow maps that sample in one to four steps."""

from flowdistill.run import Run, load

__all__ = ['Run', 'load']
__version__ = '0.1.0'
