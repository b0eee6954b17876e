"""The keys of a config; from files and overrides to one dict per stage.

A config file imports `choose` and `beside`, and may raise `ConfigError`.
"""

from flowdistill.config.bind import ConfigError, suggest
from flowdistill.config.files import beside, choose

__all__ = ['ConfigError', 'beside', 'choose', 'suggest']
