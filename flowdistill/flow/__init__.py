"""The mathematics of flows: paths, times, couplings, norms. Imports only jax.

Time: t = 0 is data, t = 1 is noise, and s <= t is the end of a jump.
"""
