"""Samplers: from noise to data in a given number of network calls.

A sampler is made for an average velocity u(x_t, t, s), with t and s [b] and
the condition closed over; its keyword-only parameters are its options. `grids`
has the times at which it stops, `plan` chooses how many there are, `integrate`
drives it, and `solve` compiles that for a network with parameters.
"""

from flowdistill.samplers.grids import (
  explicit,
  karras,
  kumaraswamy,
  logit_normal,
  shifted,
  uniform,
)
from flowdistill.samplers.jumps import (
  consistency,
  flow_map,
  gamma,
  jump_renoise,
)
from flowdistill.samplers.ode import euler, heun, rk4
from flowdistill.samplers.rk45 import rk45
from flowdistill.samplers.unified import any_style, few, mul

SAMPLERS = {
  'euler': euler,
  'heun': heun,
  'rk4': rk4,
  'rk45': rk45,
  'flow_map': flow_map,
  'consistency': consistency,
  'gamma': gamma,
  'jump_renoise': jump_renoise,
  'few': few,
  'any': any_style,
  'mul': mul,
}
GRIDS = {
  'uniform': uniform,
  'shifted': shifted,
  'logit_normal': logit_normal,
  'karras': karras,
  'kumaraswamy': kumaraswamy,
  'explicit': explicit,
}
