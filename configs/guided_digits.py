r"""A student with adjustable guidance: autoguidance, λ drawn for every example.

  python -m flowdistill.main --config configs/guided_digits.py \
    --workdir runs/guided_digits

The quickstart's teacher is distilled with λ ~ U[1, 3], as in Align Your Flow.
The student is conditioned on λ by cond['guidance'], an input that the teacher
lacks and that has no effect at initialisation. Afterwards guided sampling takes
one call a step:

  python -m flowdistill.main --workdir runs/guided_digits --job=generate \
    --guidance=2 --nfe=2

It takes about five minutes on two CPU cores. Fréchet distances: not yet
measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import beside, choose

quickstart = beside(__file__, 'quickstart')
SCALES = (1.0, 1.5, 2.0, 3.0)


def get_config(arg: str = '') -> ConfigDict:
  choose(arg, {'': None})
  config = quickstart.get_config().to_dict()
  sweep = [
    ['flow_map', nfe, {'guidance': scale}] for scale in SCALES for nfe in (1, 4)
  ]
  distil = config['stages']['distil']
  distil['network'] = {'scalars': ('guidance',)}
  distil['init_from'] = {'source': 'stage:flow', 'matching': True}
  distil['objective']['guidance'] = {'name': 'uniform', 'low': 1.0, 'high': 3.0}
  distil['optim']['schedule']['warmup'] = 100
  distil['evaluators'] = {
    'few_step': {'name': 'few_step', 'sweep': {'student': sweep}}
  }
  return ConfigDict(config, sort_keys=False)
