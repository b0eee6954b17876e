"""The mathematics of flows: paths, times, couplings, norms. Only jax.

Time: t = 0 is data, t = 1 is noise, and s <= t is where a flow map jumps to.
"""
