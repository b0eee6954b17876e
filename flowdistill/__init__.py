"""From a slow flow model to one that draws in one to four steps."""

from flowdistill.run import Run, load

__all__ = ['Run', 'load']
__version__ = '0.1.0'
