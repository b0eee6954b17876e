"""LoRA in a config: what is refused, what is shared, and what is planned."""

import pathlib

import pytest
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.planning.cost import count
from flowdistill.planning.forecast import bytes_per_device, lay_out
from flowdistill.stages.blueprints import Blueprints
from flowdistill.training.named_arrays import by_name

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
DIGITS = f'{CONFIGS / "lora" / "digits.py"}:runlocal'
HALF = DIGITS.replace('runlocal', 'bfloat16,runlocal')
DISTIL = 'stages.distil.'
UNMEASURED = (f'{DISTIL}evaluators={{}}', 'evaluation.features=none')


def checked(*overrides, source=DIGITS):
  stages = tiny.stages(
    source, *UNMEASURED, *(DISTIL + text for text in overrides)
  )
  return tiny.check_here(stages, pathlib.Path('nowhere'))


def stage(*overrides, source=DIGITS):
  stages = tiny.stages(
    source, *UNMEASURED, *(DISTIL + text for text in overrides)
  )
  return Blueprints(stages, pathlib.Path('nowhere'), recorded=False)['distil']


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (['init_from=none'], r'distil\.init_from = None must be weights.* base'),
    (['lora.layers=()'], r'distil\.lora.layers = \[\] must name at least one'),
    (
      ["lora.layers=('blocks.*.kqv',)"],
      r"distil\.lora\.layers: 'blocks\.\*\.kqv' must match something in this "
      r"network; did you mean 'blocks\.each\.qkv'\?",
    ),
    (
      ["lora.layers=('label',)"],
      r"layers = \['label'\] must be linear .*: label is of the class Embed",
    ),
    (
      ["lora.layers=('qkv', 'qkv')"],
      r"lora.layers = \['qkv', 'qkv'\] must be patterns, each once",
    ),
    (['lora.rank=0'], r'distil\.lora.rank = 0 must be at least 1'),
    (
      ['lora.rank=17'],
      r'distil\.lora\.rank = 17 must be at most 16, the smaller width of '
      r'blocks\.each\.',
    ),
    (['lora.alpha=0'], r'distil\.lora.alpha = 0.0 must be above 0, or None'),
    (['lora.dropout=1'], r'lora.dropout = 1.0 must lie in \[0, 1\)'),
    (
      ["lora.full=('times.of_z.*',)"],
      r"distil\.lora\.full: 'times\.of_z\.\*' must match something",
    ),
    (
      ["lora.full=('*',)"],
      r"lora\.full = \['\*'\] must leave out blocks\.each\.\w+\.kernel, whose "
      'layer has low-rank factors',
    ),
    (
      ['lora.ranks=4'],
      r"distil\.lora has no key 'ranks'; did you mean 'rank'\?",
    ),
    (
      ["network.scalars=('guidance',)", 'init_from.matching=true'],
      r"lora\.full = \['times\.of_s\.\*'\] must match scalars\.of\.guidance\."
      r".*, \.\.\.: the base, 'stage:flow', does not have them",
    ),
    (
      ["network.scalars=('guidance',)"],
      r'distil\.init_from: these weights do not fit.*scalars',
    ),
    (
      ['lora=none', 'init_from.dtype=bfloat16'],
      r'init_from\.dtype has no effect outside of frozen, and without lora',
    ),
    (
      ['network=edm2', "lora.layers=('*',)", 'lora.full=()'],
      r'linear layers and convolutions: \S+ is of the class MP\w+',
    ),
    (
      ['optim.state_dtype=bf16'],
      r"optim.state_dtype = 'bf16' does not exist; .*'bfloat16'",
    ),
  ],
)
def test_what_cannot_be_adapted(overrides, message):
  with pytest.raises(ConfigError, match=message):
    checked(*overrides)


def test_lora_of_a_whole_run_is_for_the_stages_with_a_base():
  stages = tiny.stages(DIGITS, "lora.layers=('blocks.*.up',)")
  assert stages['flow']['lora'] is None
  assert stages['distil']['lora']['layers'] == ('blocks.*.up',)


def test_the_base_is_one_tree_with_that_of_the_teacher():
  found = stage()
  assert found.roles['student'].base == found.roles['teacher'].base == 'teacher'
  assert [*found.frozen] == ['teacher', 'weak']
  other = stage('frozen.teacher.weights=params')
  assert other.roles['student'].base == 'student'
  assert [*other.frozen] == ['teacher', 'weak', 'student']


def test_only_what_learns_is_in_the_state():
  (own,) = stage().state.roles.values()
  for tree in (own.params, own.emas['main'], own.opt_state):
    for name in by_name(tree):
      assert 'lora_' in name or 'times.of_s' in name or name.endswith('count')


def test_a_base_in_bfloat16_and_moments_too_take_half_the_bytes():
  full, half = (stage(source=source) for source in (DIGITS, HALF))
  sizes = [bytes_per_device(each, lay_out(each, 1)) for each in (full, half)]
  model = full.roles['student'].model
  learn, weights = count(model.params), count(model.plain.params)
  for one, width in zip(sizes, (4, 2), strict=True):
    assert one['parameters'] == one['ema'] == one['gradients'] == 4 * learn
    assert one['frozen'] == 2 * width * weights  # teacher and weak
    assert one['optimiser'] == 2 * width * learn + (8 if width == 4 else 12)


def test_a_role_beside_the_student_can_be_adapted():
  critic = (
    "roles.critic={'network': {'name': 'dit', 'width': 16, 'depth': 1, "
    "'heads': 2}, 'objective': 'rectified_flow', 'init_from': 'stage:flow', "
    "'lora': {'layers': ('blocks.*.up',), 'rank': 4}}"
  )
  found = stage(critic)
  assert found.roles['critic'].base == 'teacher'
  names = by_name(found.state.roles['critic'].params)
  assert [*names] == ['blocks.each.up.lora_a', 'blocks.each.up.lora_b']
