"""What may stand before the names of weights, and what is what."""

import itertools

import pytest

from flowdistill.convert.prefixes import Naming, shadow_number

NAMING = Naming('XYZ', r'(enc|dec)\.', ignored=r'\.buffer$')
WRAPPERS = ('', 'state_dict.', 'model_state_dict.', 'model.', 'net.')
MODULES = ('', 'module.', 'module.module.', '_orig_mod.', 'module._orig_mod.')


@pytest.mark.parametrize('wrapper', WRAPPERS)
@pytest.mark.parametrize('module', MODULES)
@pytest.mark.parametrize(
  'attribute', ['', 'model.', 'net.', 'model.diffusion_model.']
)
def test_known_prefixes_in_any_combination(wrapper, attribute, module):
  prefix = wrapper + attribute + module
  assert NAMING.bare(f'{prefix}enc.weight') == 'enc.weight'
  assert NAMING.bare(f'{prefix}enc.buffer') is None
  assert NAMING.bare(f'{prefix}step') is None
  found = NAMING.find([f'{prefix}enc.weight', f'{prefix}dec.bias'])
  assert found.params == {n: prefix + n for n in ('enc.weight', 'dec.bias')}
  assert found.prefixes == {'params': [prefix], 'ema': []}


@pytest.mark.parametrize(
  'other', ['discriminator.', 'optimizer.state.', 'loss_fn.net.', 'modules.']
)
def test_other_prefixes_are_not_looked_through(other):
  assert NAMING.bare(f'{other}enc.weight') is None
  assert NAMING.bare(f'model.{other}enc.weight') is None


@pytest.mark.parametrize(
  'word', ['_orig_mod', '_fsdp_wrapped_module', '_checkpoint_wrapped_module']
)
def test_words_of_torch_may_stand_inside(word):
  found = NAMING.find([f'module.enc.{word}.0.weight', 'module.enc.1.weight'])
  assert list(found.params) == ['enc.0.weight', 'enc.1.weight']
  assert found.prefixes['params'] == [f'module.{word}.', 'module.']


@pytest.mark.parametrize(
  'ema',
  ['ema', 'ema_model', 'model_ema', 'params_ema', 'net_ema', 'ema.shadow'],
)
@pytest.mark.parametrize('before', ['', 'state_dict.'])
def test_ema_weights_by_name(before, ema):
  theirs = f'{before}{ema}.module.enc.weight'
  found = NAMING.find([theirs, f'{before}model.enc.weight'])
  assert found.params == {'enc.weight': f'{before}model.enc.weight'}
  assert found.ema == {'enc.weight': theirs}
  alone = NAMING.find([theirs])
  assert (alone.params, alone.ema) == ({'enc.weight': theirs}, {})
  assert alone.prefixes['params'] == [f'{before}{ema}.module.']


def test_ema_weights_as_a_list():
  for before in ('', 'ema.', 'state_dict.ema.', 'ema_state_dict.'):
    assert shadow_number(f'{before}shadow_params.12') == 12
  for name in ('ema.shadow_params', 'optimizer.shadow_params.1', 'x'):
    assert shadow_number(name) is None
  found = NAMING.find(['model.enc.w', 'ema.shadow_params.0'])
  assert (found.shadow, found.ema) == ({0: 'ema.shadow_params.0'}, {})


@pytest.mark.parametrize(
  'names',
  [
    ('model.enc.w', 'state_dict.enc.w'),
    ('enc.w', 'module.enc.w'),
    ('model.enc.w', 'model._orig_mod.enc.w'),
    ('ema.enc.w', 'ema_model.enc.w'),
    ('model.enc.v', 'ema.enc.w', 'ema_model.enc.w'),
    ('model.enc.v', 'ema.enc.w', 'ema.shadow_params.0'),
  ],
)
def test_what_could_be_either_is_refused_with_both_names(names):
  for order in itertools.permutations(names):
    with pytest.raises(ValueError, match='appears twice|both EMA') as error:
      NAMING.find(order)
    assert all(name in str(error.value) for name in names[-2:])


def test_the_online_model_of_ema_pytorch_is_the_model_again():
  names = ['model.enc.w', 'ema.online_model.enc.w', 'ema.ema_model.enc.w']
  found = NAMING.find(names)
  assert found.params == {'enc.w': 'model.enc.w'}
  assert found.ema == {'enc.w': 'ema.ema_model.enc.w'}
  alone = NAMING.find(['online_model.enc.w', 'ema_model.enc.w'])
  assert alone.params == {'enc.w': 'online_model.enc.w'}


def test_long_names_take_no_time():
  for word in ('ema_', 'model.', '_orig_mod.', 'ema.'):
    assert NAMING.bare(word * 300_000) is None
    assert shadow_number(word * 300_000) is None
