"""Provenance: what a row says of the run."""

import re
from types import SimpleNamespace

import pytest

from flowdistill.stages import provenance
from flowdistill.workdir.environment import environment


def assembly(tmp_path, objective, *, parent=None, roles=None):
  """A stage, which starts from another one if that is given."""
  spec = {'objective': objective, 'network': {}, 'roles': roles or {}}
  blueprint = SimpleNamespace(
    spec=spec,
    learners={'student': SimpleNamespace(weights=parent)},
    stage=SimpleNamespace(frozen={}),
    weights=lambda name: SimpleNamespace(stage=parent.blueprint),
  )
  return SimpleNamespace(blueprint=blueprint, workdir=tmp_path)


LPIPS = {'name': 'distillation', 'distance': ('lpips', 'l2')}
PLAIN = {'name': 'ayf_emd', 'distance': ('l2',)}


def marks(found, network):
  return provenance.of_network(found, {'features': network})


def test_features_of_a_training_loss_are_marked(tmp_path):
  found = assembly(tmp_path, LPIPS)
  assert marks(found, 'vgg16') == {'trained_on': 'vgg16 (lpips)'}
  assert marks(found, 'inception, vgg16') == {'trained_on': 'vgg16 (lpips)'}
  assert marks(found, 'inception') == {}
  assert provenance.of_network(found, {}) == {}
  assert marks(assembly(tmp_path, PLAIN), 'vgg16') == {}


def test_a_network_keeps_the_mark_of_what_it_starts_from(tmp_path):
  first = assembly(tmp_path, LPIPS)
  found = assembly(tmp_path, PLAIN, parent=first)
  assert marks(found, 'vgg16') == {'trained_on': 'vgg16 (lpips)'}


def test_the_loss_of_another_role_counts(tmp_path):
  roles = {'other': {'objective': LPIPS, 'network': {}}}
  found = assembly(tmp_path, PLAIN, roles=roles)
  assert marks(found, 'vgg16') == {'trained_on': 'vgg16 (lpips)'}


def test_the_dtype_and_the_revision(tmp_path):
  found = assembly(tmp_path, PLAIN)
  found.blueprint.spec['network']['dtype'] = 'bfloat16'
  row = provenance.of_run(found)
  assert row['dtype'] == 'bfloat16'
  assert re.fullmatch(r'[\d.]+( [0-9a-f]{12}\+?)?', row['code'])
  assert row['code'].startswith(environment()['packages']['flowdistill'])


@pytest.mark.parametrize('dirty', [False, True])
def test_a_changed_checkout_is_said(monkeypatch, dirty):
  git = {'revision': 'abcdef0123456789', 'dirty': dirty}
  known = {'packages': {'flowdistill': '1.2'}, 'git': git}
  monkeypatch.setattr(provenance, 'environment', lambda: known)
  provenance.revision.cache_clear()
  expected = '1.2 abcdef012345+' if dirty else '1.2 abcdef012345'
  assert provenance.revision() == expected
  known['git'] = None
  provenance.revision.cache_clear()
  assert provenance.revision() == '1.2'
  provenance.revision.cache_clear()


def test_the_ema_of_the_weights(tmp_path):
  found = assembly(tmp_path, PLAIN)
  tracked = {
    name: SimpleNamespace(sigma_rel=None) for name in ('main', 'early')
  }
  tracked['power'] = SimpleNamespace(sigma_rel=0.05)
  learns = SimpleNamespace(emas=tracked)
  found.blueprint.learners['student'].learns = learns
  found.blueprint.spec['ema_snapshots'] = {'every': {'images': 500}}
  emas = {
    'power': {'name': 'power', 'sigma_rel': 0.05},
    'main': {'name': 'half_life', 'half_life': {'steps': 9}, 'until': None},
    'early': {'name': 'decay', 'decay': 0.9},
  }
  found.blueprint.learner_spec = lambda role: {'ema': emas}

  def ema(model, which):
    return provenance.of_ema(found, {'model': model}, which)

  main = 'half_life(half_life=steps=9)'
  assert ema('student', 'ema') == {'ema': main}
  assert ema('student', 'early') == {'ema': 'decay(decay=0.9)'}
  assert ema('student', 'params') == {}
  assert ema('student', 'power:0.05') == {'ema': 'power(sigma_rel=0.05)'}
  wide = 'power(sigma_rel=0.1, snapshots=images=500)'
  assert ema('student', 'power:0.1') == {'ema': wide}
  first = found.blueprint
  for weights, expected in (
    ('ema', {'ema': main}),
    ('params', {}),
    ('power:0.1', {'ema': wide}),
  ):
    reference = SimpleNamespace(role='student', weights=weights)
    origin = SimpleNamespace(stage=first, reference=reference)
    found.blueprint = SimpleNamespace(
      learners={}, weights=lambda role, origin=origin: origin
    )
    assert ema('teacher', 'params') == expected
  origin.stage = None  # a file of weights
  assert ema('teacher', 'ema') == {}
