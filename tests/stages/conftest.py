"""Commands that are typed, for the tests of what is mistyped."""

from mistyped import images, points, stages, type_in, write_config

__all__ = ['images', 'points', 'stages', 'type_in', 'write_config']
