"""What a config of an objective may forget, found by shapes alone."""

import contextlib
import pathlib
import types

import numpy as np
import pytest
from flax import nnx
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.flow.spec import DataSpec
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.check_evaluators import check_entry, check_measured
from flowdistill.workdir.weights import matching, take_matching

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
GUIDED = f'{CONFIGS / "guided_digits.py"}:runlocal'
DISTIL = 'stages.distil.'
UNMEASURED = ['evaluators={}', 'evaluation.features=none']
PLAIN = ['network.scalars=()', *UNMEASURED]


def checked(source, *overrides):
  """Checks a config with 'KEY=VALUE' overrides."""
  tiny.check_here(tiny.stages(source, *overrides), pathlib.Path('nowhere'))


def alone(name, **options):
  """Overrides to another objective without frozen networks."""
  typed = [f'objective.{key}={value}' for key, value in options.items()]
  objective = [f'objective.name={name}', *typed, 'frozen={}']
  return [
    DISTIL + text for text in (*objective, 'init_from=stage:flow', *PLAIN)
  ]


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (
      [DISTIL + text for text in PLAIN],
      r"distil\.network\.scalars must be \['guidance'\]: the objective draws "
      r"\['guidance'\] for every example",
    ),
    (
      [DISTIL + 'objective.guidance=none', DISTIL + 'frozen.weak=stage:flow'],
      r"cond has \['label'\] and no 'guidance', which this network takes",
    ),
    (
      [DISTIL + 'init_from=stage:flow'],
      r'distil\.init_from: these weights do not fit.*scalars',
    ),
    (
      [DISTIL + 'network.heads=4'],
      r"distil\.network\.heads = 4 must be 2, as in 'stage:flow', which this",
    ),
    (
      [DISTIL + 'frozen.teacher.matching=true'],
      r'distil\.frozen\.teacher\.matching has no effect outside of init_from',
    ),
    (
      [DISTIL + 'init_from.matching=1'],
      r'init_from: .*matching must be True or False',
    ),
    (alone('ayf_emd'), r'distil\.objective: .*nets\.teacher.*frozen\.teacher'),
    (alone('scm', distil='true'), r'distil\.objective: .*frozen\.teacher'),
    (
      alone('rectified_flow', coupling='paired'),
      r'distil\.objective\.coupling.*a coupling of pairs needs batches',
    ),
    (
      alone('rectified_flow', coupling='annealed'),
      r'distil\.objective\.coupling.*a coupling of pairs needs batches',
    ),
    (alone('rcgm', order=-1), r'distil\.objective\.order = -1 must be at'),
    (
      alone(
        'twinflow', kinds="{'e2e': 0, 'mul': 0, 'any': 0, 'adv': 0, 'one': 0}"
      ),
      r'distil\.objective\.kinds: the weights of the kinds are all 0',
    ),
    (
      alone('distillation', distance="('lpips',)", solver_steps=1),
      r'distil\.objective: .*frozen\.perceptual.*a file of LPIPS weights',
    ),
    (
      [
        DISTIL + "evaluators.few_step.sweep={'student': [['euler', 2, {'grid': "
        "{'name': 'explicit', 'times': (1.0, 0.2, 0.5)}}]]}"
      ],
      r'few_step\.sweep\.student.*must fall from at most 1 to 0',
    ),
  ],
)
def test_it_says_what_is_missing(overrides, message):
  with pytest.raises(ConfigError, match=message):
    checked(GUIDED, *overrides)


def test_first_weights_are_always_whole():
  half = "init_from={'source': 'stage:flow', 'dtype': 'bfloat16'}"
  with pytest.raises(
    ConfigError, match='init_from.dtype has no effect outside'
  ):
    checked(GUIDED, DISTIL + half)
  wrong = half.replace('bfloat16', 'half')
  with pytest.raises(ConfigError, match="init_from: dtype = 'half' must be"):
    checked(GUIDED, DISTIL + wrong)


FROZEN = DISTIL + "frozen.teacher={'source': 'stage:flow', %s}"


def test_a_frozen_network_has_a_form_of_attention_of_its_own():
  fused = FROZEN % "'attention_form': 'fused', 'dtype': 'bfloat16'"
  specs = tiny.stages(GUIDED, fused)
  distil = Blueprints(specs, pathlib.Path('nowhere'))['distil']
  forms = {
    name: {str(x) for x in find(role.model)}
    for name, role in distil.roles.items()
  }
  assert forms['teacher'] == {'fused'}
  assert forms['student'] == forms['weak'] == {'plain'}


def find(model):
  """The forms of attention in a network."""
  modules = nnx.iter_modules(nnx.merge(model.graph, model.params))
  return [m.form for _, m in modules if hasattr(m, 'form')]


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    (
      FROZEN % "'attention_form': 'fused'",
      r"frozen\.teacher: .*attention_form = 'fused' must have dtype = 'bfloat",
    ),
    (
      FROZEN % "'attention_form': 'flash'",
      r"frozen\.teacher: .*attention_form = 'flash' must be one of 'plain', 'b",
    ),
    (
      DISTIL + "init_from={'source': 'stage:flow', 'attention_form': 'plain'}",
      r'init_from\.attention_form has no effect outside of frozen',
    ),
  ],
)
def test_such_a_form_must_fit(override, message):
  with pytest.raises(ConfigError, match=message):
    checked(GUIDED, override)


def test_a_fixed_scale_need_not_be_told():
  fixed = ['objective.guidance.name=fixed', *PLAIN]
  checked(GUIDED, *(DISTIL + text for text in fixed))


def test_matching_takes_what_has_the_same_name_and_shape():
  fresh = {'a': np.zeros(2), 'b': np.zeros(3), 'c': np.zeros(1)}
  given = {'a': np.ones(2), 'b': np.ones(4), 'd': np.ones(1)}
  assert list(matching(fresh, given)) == ['a']
  taken = take_matching(fresh, given)
  assert {name: float(x.sum()) for name, x in taken.items()} == {
    'a': 2,
    'b': 0,
    'c': 0,
  }


def test_weights_of_which_none_matches_are_refused():
  other = ['network.width=32', 'network.patch=1', 'network.heads=4']
  with pytest.raises(ConfigError, match='init_from: no array there matches'):
    checked(
      str(CONFIGS / 'guided_digits.py') + ':runlocal',
      *(DISTIL + text for text in other),
    )


def measured(spec, ours, theirs):
  """A stage of these examples, with two data sets."""
  return types.SimpleNamespace(
    images=spec,
    key=lambda key: f'stages.distil.{key}',
    spec={'dataset': ours, 'evaluation': {'dataset': theirs}},
  )


def examples(spec):
  record = types.SimpleNamespace(stream=False)
  return types.SimpleNamespace(spec=spec, record=record)


@pytest.mark.parametrize(
  ('theirs', 'cure'),
  [
    ({'size': 64}, 'Set KEY.size=64, too'),
    ({'size': 64, 'path': 'b'}, 'Set KEY.path=a and KEY.size=64, too'),
    ({'name': 'tfds'}, "It is another data set, 'tfds': set KEY, too"),
  ],
)
def test_what_the_evaluation_lacks_is_said(theirs, cure):
  ours = {'name': 'folder', 'path': 'a', 'size': 128, 'split': 'train'}
  cure = cure.replace('KEY', 'config.stages.distil.evaluation.dataset')
  cure = cure.replace('size=64', 'size=128')
  stage = measured(
    DataSpec((128, 128, 3)), ours, {**ours, 'split': 'validation', **theirs}
  )
  with pytest.raises(ConfigError) as error:
    check_measured(stage, examples(DataSpec((64, 64, 3))))
  assert str(error.value) == (
    'config.stages.distil.evaluation.dataset must have examples as those of '
    f'the stage, [128, 128, 3], and has [64, 64, 3]. {cure}'
  )


def test_guidance_without_conditions_is_to_be_removed():
  plain = types.SimpleNamespace(scalars=())
  stage = types.SimpleNamespace(
    roles={'student': types.SimpleNamespace(model=plain)},
    sees=DataSpec((2,)),
    spec={'dataset': {'name': 'moons'}},
    guides_of=lambda role: {},
    answers=lambda role: 'average',
  )
  with pytest.raises(
    ValueError,
    match=(
      "^guidance = 2 must be removed: the data set 'moons' has no conditions"
    ),
  ):
    check_entry(stage, 'student', 'euler', 1, {'guidance': 2})


@pytest.mark.parametrize(
  ('classes', 'message'),
  [
    (('1', '10', '2'), "'10' in the place of '2'"),
    (('1', '2', '11'), "'11' in the place of '10'"),
    (('1', '2', '10'), ''),
    ((), ''),
  ],
)
def test_labels_mean_the_same_where_a_stage_is_measured(classes, message):
  def data(names):
    return DataSpec.labelled((2, 2, 3), 3, names)

  same = {'name': 'folder'}
  blueprint = measured(data(('1', '2', '10')), same, same)
  allowed = contextlib.nullcontext()
  with pytest.raises(ConfigError, match=message) if message else allowed:
    check_measured(blueprint, examples(data(classes)))


COLOURS = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
  ('pictures', 'refused'),
  [(COLOURS, True), (COLOURS[:, :6, :6, :1], True), (COLOURS[..., :1], False)],
)
def test_a_feature_network_must_take_the_examples(tmp_path, pictures, refused):
  np.save(tmp_path / 'a.npy', pictures)
  np.save(tmp_path / 'b.npy', np.arange(40) % 10)
  data = {
    'name': 'arrays',
    'path': str(tmp_path / 'a.npy'),
    'label': str(tmp_path / 'b.npy'),
  }
  quickstart = f'{CONFIGS / "quickstart.py"}:runlocal'
  outcome = contextlib.nullcontext()
  if refused:
    outcome = pytest.raises(
      ConfigError, match=r'evaluation\.features: .*set evaluation.features = no'
    )
  with outcome:
    checked(quickstart, f'dataset={data}')
  if refused:  # pictures need no features
    own = "evaluators={'pictures': {'name': 'pictures'}}"
    checked(quickstart, f'dataset={data}', DISTIL + own)
