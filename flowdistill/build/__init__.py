"""Names into objects, abstractly: blueprints, roles, data specs, sampling.

Only this package knows the tables of the rooms.
"""
