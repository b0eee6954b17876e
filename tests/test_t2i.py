"""The recipes of configs/t2i/shapes.py."""

import pathlib
import runpy

import numpy as np
import pytest
from jobs import tiny

from flowdistill.build.tables import bind_stage
from flowdistill.datasets.latents import Latents
from flowdistill.jobs import train
from flowdistill.stages.assembly import assemble, batches
from flowdistill.stages.kinds import load_stages

CONFIG = pathlib.Path(__file__).parents[1] / 'configs' / 't2i' / 'shapes.py'
OWN = runpy.run_path(str(CONFIG))
RECIPES = OWN['RECIPES']
OTHERS = [name for name in OWN['STUDENTS'] if name not in RECIPES['main']]
ONE = {'sweep': {'student': [['flow_map', 1]]}}
SMALL = {
  'geneval': {'name': 'geneval', 'samples': 12, **ONE},
  'prompts': {'name': 'pictures', 'prompts': ['a red circle'], **ONE},
}
FEW = (
  'stages.encode.dataset.examples=600',
  'stages.encode_ordered.dataset.examples=600',
  'evaluation.dataset.examples=60',
  'evaluation.features=none',
  f'evaluators={SMALL}',
)


class Opened(Exception):
  """A picture was opened."""


@pytest.mark.parametrize('recipe', RECIPES)
def test_each_recipe_has_a_teacher_and_its_students(recipe):
  found = load_stages(f'{CONFIG}:{recipe}')
  before = ['encode', 'encode_ordered', 'align']
  assert list(found) == [*before, 'flow', *RECIPES[recipe]]
  for name in before:
    del found[name]
  for name in RECIPES[recipe]:
    assert found[name]['init_from']['source'] == 'stage:flow'
  for name, spec in found.items():
    bind_stage(spec, f'stages.{name}')
    assert set(spec['evaluators']) == {'geneval', 'few_step', 'prompts'}


def test_the_recipes_differ_as_their_papers_say():
  found = {
    name: load_stages(f'{CONFIG}:{name}')[name] for name in OWN['STUDENTS']
  }
  objectives = {name: spec['objective'] for name, spec in found.items()}
  kinds = {
    name: ''.join(
      kind[0] for kind, weight in objective['kinds'].items() if weight
    )
    for name, objective in objectives.items()
    if 'kinds' in objective
  }
  assert kinds == {
    'twinflow': 'emaa',
    'rcgm': 'ema',
    'rcgm_theory': 'a',
    'datafree': 'emaa',
  }
  frozen = {name: sorted(spec['frozen']) for name, spec in found.items()}
  assert frozen['autoguided'] == ['teacher', 'weak']
  assert frozen['datafree'] == frozen['ayf'] == ['teacher']
  assert not frozen['twinflow']
  free = {name for name, spec in found.items() if spec['train']['data_free']}
  assert free == {'datafree'}
  assert objectives['datafree']['target'] == 'frozen'
  assert objectives['twinflow']['target'] == 'ema'
  mean = objectives['meanflow']
  assert mean['guidance'] / (1 - mean['kappa']) == OWN['GUIDED']


def test_its_prompts_are_in_words_of_the_training():
  flow = tiny.stages(f'{CONFIG}:flow')['flow']
  shown = {**flow['evaluation']['dataset'], 'split': 'train', 'examples': 600}
  source = bind_stage({**flow, 'dataset': shown}, 'stages.flow').dataset()
  encoder = source.encoder
  assert not any(encoder.unknown(each) for each in OWN['PROMPTS'])
  assert max(map(encoder.size, source.captions)) <= encoder.length


@pytest.mark.slow
@pytest.mark.parametrize('recipe', OTHERS)
def test_recipes_that_no_document_runs_train(tmp_path, recipe):
  rows = tiny.train_here(tmp_path, f'{CONFIG}:{recipe},runlocal', *FEW)
  assert [row['reference'] for row in rows] == ['shapes validation']
  assert 0 <= rows[0]['geneval'] < 0.5


@pytest.mark.slow
def test_no_picture_is_opened_without_data(tmp_path, monkeypatch):
  specs = tiny.stages(f'{CONFIG}:datafree,runlocal', *FEW)
  blueprints = tiny.check_here(specs, tmp_path)
  for name in ('encode', 'encode_ordered', 'align', 'flow'):
    train.run(blueprints, train.Options(stage=name))

  def raises(*args):
    raise Opened

  for name in ('__getitem__', 'draw', 'stored'):
    monkeypatch.setattr(Latents, name, raises)
  train.run(blueprints, train.Options(stage='datafree'))

  blueprint = blueprints['datafree']
  batch = next(batches(assemble(blueprint, tmp_path), 0))
  assert not np.any(batch['x0'])
  assert np.any(np.asarray(batch['cond']['mask']))
  with_pictures = {**blueprint.spec['train'], 'data_free': False}
  other = blueprint.rebound({**blueprint.spec, 'train': with_pictures})
  with pytest.raises(Opened):
    next(batches(assemble(other, tmp_path), 0))
