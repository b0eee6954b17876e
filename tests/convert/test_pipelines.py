"""Pipelines of diffusers draw what our networks draw."""

import itertools
import json

import jax
import numpy as np
import pytest
from convert.flow_map_networks import (
  CHANNELS,
  SIDE,
  B,
  made,
  options_of,
  written,
)
from flax import nnx

from flowdistill.convert.pipelines import Jumps, open_base, write_pipeline

TIMES = (1.0, 0.75, 0.25)
PROMPTS = ['a red square', 'two green circles']
INDEX = {
  'flux': 'FluxPipeline',
  'sd3': 'StableDiffusion3Pipeline',
}


def pretend(folder, name, **changes):
  """A folder that looks like a pipeline."""
  index = {
    '_class_name': INDEX[name],
    '_diffusers_version': '0.30.0',
    'scheduler': ['diffusers', 'FlowMatchEulerDiscreteScheduler'],
    'transformer': ['diffusers', 'Anything'],
    'vae': ['diffusers', 'AutoencoderKL'],
    'image_encoder': [None, None],
    **changes,
  }
  for part in ('vae', 'scheduler', 'transformer'):
    (folder / part).mkdir(parents=True)
    (folder / part / 'config.json').write_text(f'{{"of": "{part}"}}')
  (folder / 'model_index.json').write_text(json.dumps(index))
  return folder


def read(path):
  return json.loads(path.read_text())


@pytest.mark.parametrize('name', INDEX)
def test_a_flow_map_has_the_scheduler_of_flow_maps(tmp_path, name):
  base = open_base(pretend(tmp_path / 'base', name), name)
  new = tmp_path / 'new'
  new.mkdir()
  write_pipeline(new, base, name, Jumps(TIMES, 1.5, None))
  index = read(new / 'model_index.json')
  assert index['_class_name'][0] == 'pipeline'
  assert index['scheduler'] == ['diffusers', 'FlowMapEulerDiscreteScheduler']
  assert index['transformer'][0] == 'flow_map_transformer'
  assert index['step_times'] == list(TIMES)
  assert index['guidance_scale'] == 1.5
  assert index['classifier_free_guidance'] is False
  assert index['vae'] == ['diffusers', 'AutoencoderKL']
  assert read(new / 'vae' / 'config.json') == {'of': 'vae'}
  assert read(new / 'scheduler' / 'scheduler_config.json')['shift'] == 1
  assert (new / 'pipeline.py').is_file()
  assert not (new / 'transformer').exists()


def test_a_network_of_one_time_is_sampled_as_before(tmp_path):
  base = open_base(pretend(tmp_path / 'base', 'sd3'), 'sd3')
  new = tmp_path / 'new'
  new.mkdir()
  write_pipeline(new, base, 'sd3', None)
  before = read(tmp_path / 'base' / 'model_index.json')
  before['transformer'] = ['diffusers', 'SD3Transformer2DModel']
  after = read(new / 'model_index.json')
  for index in (before, after):
    del index['_diffusers_version']
  assert after == before
  assert read(new / 'scheduler' / 'config.json') == {'of': 'scheduler'}
  assert not (new / 'pipeline.py').exists()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'_class_name': 'FluxPipeline'}, "is of the class 'FluxPipeline'; for"),
    ({'_class_name': ['pipeline', 'FlowMapSD3Pipeline']}, 'is of the class'),
    (
      {'../vae': ['diffusers', 'A']},
      r"'\.\./vae' must be the name of a folder",
    ),
    ({'text_encoder': ['transformers', 'A']}, 'text_encoder is not there'),
  ],
)
def test_another_base_is_refused(tmp_path, change, message):
  folder = pretend(tmp_path / 'base', 'sd3', **change)
  with pytest.raises(ValueError, match=message):
    open_base(folder, 'sd3')


def test_a_folder_without_an_index_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'model_index\.json cannot be read'):
    open_base(tmp_path, 'sd3')
  with pytest.raises(ValueError, match="network.name = 'dit' must be one of"):
    open_base(pretend(tmp_path / 'base', 'sd3'), 'dit')


def ours(graph, params, x, cond, times):
  """x_s = x_t + (s − t) u along the times."""
  with jax.default_matmul_precision('highest'):
    for t, s in itertools.pairwise((*times, 0.0)):
      t, s = (np.full(len(x), time, np.float32) for time in (t, s))
      u = nnx.merge(graph, params)(x, t, s, cond)
      x = x + (s - t)[:, None, None, None] * np.asarray(u)
  return x


def encoded(name, pipeline):
  """What our networks see of the prompts."""
  found = pipeline.encode_prompt(PROMPTS, *[None] * (1 + (name == 'sd3')))
  text, pooled = found[0], found[2 if name == 'sd3' else 1]
  return {'text': text.numpy(), 'pooled': pooled.numpy()}


@pytest.mark.slow
@pytest.mark.parametrize('name', INDEX)
@pytest.mark.parametrize('form', ['midpoint', 'scaled_gap'])
def test_it_draws_prompts_as_we_do(tmp_path, name, form):
  torch = pytest.importorskip('torch')
  diffusers = pytest.importorskip('diffusers')
  bases = pytest.importorskip('convert.base_pipelines')
  scaled = form == 'scaled_gap'
  network = options_of(name, form, scaled=scaled)
  bases.save_base(name, tmp_path)
  base, new = open_base(tmp_path / 'base', name), tmp_path / 'new'
  graph, params = made(network)
  written(new / 'transformer', network, params, called=True)
  embedded = network.get('distilled_guidance')
  write_pipeline(
    new, base, name, Jumps(TIMES, 3.0 if scaled else None, embedded)
  )
  pipeline = diffusers.DiffusionPipeline.from_pretrained(
    new, trust_remote_code=True, local_files_only=True
  )
  with torch.no_grad():
    cond = encoded(name, pipeline)
  if scaled:
    cond['guidance'] = np.full(B, 3.0, np.float32)
  x = np.random.default_rng(0).normal(size=(B, SIDE, SIDE, CHANNELS))
  x = x.astype(np.float32)
  noise = torch.from_numpy(x).permute(0, 3, 1, 2)
  if name == 'flux':
    noise = pipeline._pack_latents(noise, B, CHANNELS, SIDE, SIDE)
  drawn = {'height': bases.PIXELS, 'width': bases.PIXELS, 'latents': noise}
  for how, times in (
    ({}, TIMES),
    ({'num_inference_steps': 2}, (1.0, 0.5)),
    ({'sigmas': [1.0, 0.3]}, (1.0, 0.3)),
  ):
    found = pipeline(PROMPTS, output_type='latent', **drawn, **how).images
    if name == 'flux':
      side = bases.PIXELS
      found = pipeline._unpack_latents(found, side, side, bases.FACTOR)
    wanted = ours(graph, params, x, cond, times)
    found = found.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-3 * np.abs(wanted).max())
  first, _ = pipeline(PROMPTS, **drawn).images
  assert first.size == (bases.PIXELS, bases.PIXELS)
  again = diffusers.DiffusionPipeline.from_pretrained(
    new, trust_remote_code=True, dtype=torch.bfloat16
  )
  drawn['latents'] = noise.to(torch.bfloat16)
  half = again(PROMPTS, output_type='latent', **drawn).images
  whole = pipeline(PROMPTS, output_type='latent', **drawn).images
  assert half.dtype == torch.bfloat16
  assert (half - whole).abs().max() < 0.1 * whole.abs().max()
  again.save_pretrained(tmp_path / 'again')
  assert read(tmp_path / 'again' / 'model_index.json')['step_times'] == list(
    TIMES
  )
  if not scaled:
    with pytest.raises(ValueError, match='guidance_scale=2.0 has no effect'):
      pipeline(PROMPTS, guidance_scale=2.0, **drawn)
    return
  told = {'guidance_scale': 1.0, 'return_dict': False, 'output_type': 'latent'}
  (other,) = pipeline(PROMPTS, **told, **drawn)
  assert (other - whole).abs().max() > 1e-3  # it is told another λ
  times = {'timestep': torch.ones(B), 'target': torch.zeros(B)}
  with pytest.raises(ValueError, match='takes a guidance scale: give `scale`'):
    pipeline.transformer(hidden_states=noise, **times)
