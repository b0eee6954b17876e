"""Samplers: from noise to data in a given number of network calls.

A sampler is made for an average velocity u(x_t, t, s), with t and s [b] and
the condition closed over; its keyword-only parameters are its options. `grids`
says at which times it stops, `integrate` drives it, `draw` does all of it for
a network with parameters.
"""

from flowdistill.samplers.grids import explicit, shifted, uniform
from flowdistill.samplers.jumps import flow_map, gamma
from flowdistill.samplers.ode import euler, heun, rk4

SAMPLERS = {
  'euler': euler,
  'heun': heun,
  'rk4': rk4,
  'flow_map': flow_map,
  'gamma': gamma,
}
GRIDS = {'uniform': uniform, 'shifted': shifted, 'explicit': explicit}
