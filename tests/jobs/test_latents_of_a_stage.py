"""Trainings on latents, of a folder or of an earlier stage."""

import json
import shutil

import numpy as np
import pytest
from jobs import tiny
from jobs.encoding import (
  contents,
  make,
  manifest_of,
  space_and_images,
)

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.datasets.pipeline import permutation
from flowdistill.jobs import train
from flowdistill.stages import order
from flowdistill.stages.assembly import batches
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.kinds import KINDS, check_stages

IMAGES = "stages.flow.dataset={'name': 'digits', 'split': 'train'}"


def flow(coded, *overrides):
  spec = tiny.stages(coded[0], *overrides)['flow']
  return tiny.blueprint(spec, coded[1] / 'flow', coded[1])


def test_batches_are_drawn_anew_and_not_encoded_again(coded):
  spec = tiny.stages(coded[0])['flow']
  assembly = tiny.assembled(spec, coded[1] / 'flow', coded[1])
  source = assembly.blueprint.data.source
  first = np.asarray(next(batches(assembly, 0))['x0'])
  assert first.shape == (16, 4, 4, 4)
  again = np.asarray(next(batches(assembly, 0))['x0'])
  np.testing.assert_array_equal(first, again)
  later = np.asarray(next(batches(assembly, len(source)))['x0'])
  seed = assembly.blueprint.stage.seed
  for epoch, drawn in ((0, first), (16, later)):
    order = permutation(len(source), seed, epoch)[:16]
    wanted = source.draw(order, np.full(16, epoch), seed)['x0']
    np.testing.assert_array_equal(drawn, wanted)
    others = source.draw(order, np.full(16, epoch + 1), seed)['x0']
    assert not np.isin(drawn, others).any()


@pytest.mark.slow
def test_a_stage_trains_on_them_and_measures_decoded_images(coded):
  blueprints = tiny.check_here(tiny.stages(coded[0]), coded[1])
  rows = train.run(blueprints, train.Options())
  assert {row['model'] for row in rows} == {'student'}
  assert any('frechet_digits' in row for row in rows)
  trained = flowdistill.load(coded[1])
  x = trained.sample(3, sampler='euler', nfe=2)
  assert x.shape == (3, 8, 8, 1)
  record = json.loads((coded[1] / 'flow' / 'config.json').read_text())['data']
  assert record['pictures'] == [8, 8, 1]
  assert record['spec']['shape'] == [4, 4, 4]
  folder = coded[1] / 'encode' / 'latents'
  old, other = folder.with_name('old'), folder.with_name('other')
  make(
    coded[0],
    coded[1],
    IMAGES,
    stage='flow',
    sample=True,
    out=str(other),
  )
  folder.rename(old)
  other.rename(folder)
  try:
    with pytest.raises(ConfigError, match='from other weights: .*latents'):
      specs = tiny.stages(coded[0], 'stages.flow.train.steps=4')
      tiny.run(train, specs, coded[1], train.Options(stage='flow'))
  finally:
    folder.rename(other)
    old.rename(folder)


def test_without_images_their_reconstructions_are_measured(coded):
  blueprint = flow(coded, 'stages.flow.evaluation.dataset=none')
  space, data = space_and_images(coded)
  index = np.array([3, 5])
  mean, _ = space.moments(data[index]['x0'])
  wanted = space.decode((mean - 0.1) * 0.5)
  rows = blueprint.measured[index]
  np.testing.assert_allclose(rows['x0'], wanted, atol=1e-4)
  one = blueprint.measured[np.int64(3)]
  np.testing.assert_allclose(one['x0'], wanted[0], atol=1e-4)
  assert blueprint.measured.spec.shape == (8, 8, 1)
  np.testing.assert_array_equal(rows['label'], data[index]['label'])


EARLIER = 'stages.flow.dataset.path=stage:encode'


def test_a_stage_names_the_one_that_encodes_for_it(coded, tmp_path):
  """All is known before the latents are there, and is what they are then."""
  before = Blueprints(tiny.stages(coded[0], EARLIER), tmp_path, recorded=False)
  check_stages(before)
  assert not (tmp_path / 'encode').exists()
  after = Blueprints(tiny.stages(coded[0]), coded[1], recorded=False)
  assert before['flow'].data.record == after['flow'].data.record
  assert before['flow'].sees == after['flow'].sees
  assert order.references(before, 'flow') == ['encode']
  there = Blueprints(tiny.stages(coded[0], EARLIER), coded[1], recorded=False)
  index = np.arange(5)
  np.testing.assert_array_equal(
    there['flow'].data[index]['x0'], after['flow'].data[index]['x0']
  )
  assert there['flow'].data.identity == after['flow'].data.identity


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (
      ['stages.flow.dataset.path=stage:encod'],
      r"dataset\.path = 'stage:encod' must be an earlier stage that encodes; "
      "did you mean 'stage:encode'",
    ),
    (
      ['stages.flow.dataset.path=stage:flow'],
      "path = 'stage:flow' must be an earlier stage that encodes",
    ),
    (
      [EARLIER, 'stages.flow.dataset.flip=true'],
      r'flow\.dataset\.flip = True has no mirrored images: set '
      r'config\.stages\.encode\.flips = True',
    ),
    (
      [EARLIER, 'stages.flow.space.scaling_factor=0.6'],
      r'stages\.flow\.space must be the space of the latents in .*scaling',
    ),
    (
      [EARLIER, 'stages.encode.space=pixels'],
      r"flow\.space must be the space of the latents .*was 'pixels', is 'kl'",
    ),
    (
      [
        EARLIER,
        "stages.flow.evaluation.dataset={'name': 'latents', "
        "'path': 'stage:encode'}",
      ],
      r'flow\.evaluation\.dataset must have images, and these are latents',
    ),
  ],
)
def test_a_stage_that_does_not_encode_for_it_is_refused(
  coded, tmp_path, overrides, message
):
  specs = tiny.stages(coded[0], *overrides)
  with pytest.raises(ConfigError, match=message):
    check_stages(Blueprints(specs, tmp_path, recorded=False))


def test_at_toy_size_the_latents_are_those_of_the_stage(coded, tmp_path):
  """Also where a sample is stored, of which a toy space has none."""
  more = EARLIER, 'stages.encode.sample=true', 'stages.encode.seed=3'
  specs = tiny.stages(coded[0], *more)
  small = {n: KINDS[spec['job']].tiny(spec) for n, spec in specs.items()}
  assert small['flow']['dataset']['path'] == 'stage:encode'
  blueprints = Blueprints(small, tmp_path, recorded=False)
  check_stages(blueprints)
  assert blueprints['flow'].sees.shape == (4, 4, 4)


@pytest.mark.slow
def test_one_run_encodes_and_trains(coded, tmp_path, capsys):
  """And its later jobs need neither the config nor the images."""
  silent = ('evaluators={}', 'evaluation.features=none')
  silent += ('evaluation.dataset=none',)
  more = coded[0], EARLIER, *(f'stages.flow.{text}' for text in silent)
  tiny.train_here(tmp_path, *more)
  folder = tmp_path / 'encode' / 'latents'
  assert contents(folder) == contents(coded[1] / 'encode' / 'latents')
  references = json.loads((tmp_path / 'flow' / 'config.json').read_text())
  lists = manifest_of(folder)['lists']
  assert references['references']['latents'] == f'latents of sha256 {lists}'
  tiny.train_here(tmp_path, *more)
  assert 'flow: finished before' in capsys.readouterr().out
  loaded = flowdistill.load(tmp_path)
  assert loaded.sample(2, sampler='euler', nfe=1).shape == (2, 8, 8, 1)
  assert loaded.source[np.arange(2)]['x0'].shape == (2, 4, 4, 4)
  check_stages(Blueprints.of_run(tmp_path))
  shutil.rmtree(tmp_path / 'encode')
  with pytest.raises(ConfigError, match='no folder of latents'):
    specs = tiny.stages(*more, 'stages.flow.train.steps=4')
    tiny.run(train, specs, tmp_path, train.Options(stage='flow'))
