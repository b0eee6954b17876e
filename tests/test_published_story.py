"""From networks of diffusers to few-step LoRAs that diffusers samples as we do.

A tiny FLUX and a tiny SD3.5 with random weights, saved by diffusers, are each
distilled for 50 steps by AYF and by TwinFlow on captioned shapes, in latents of
a tiny KL autoencoder, with LoRA of the form 'midpoint'; killed and continued;
and written both merged and as a LoRA. The same commands, with the real names,
are in docs/text_to_image.md.
"""

import dataclasses
import functools
import inspect
import itertools
import json
import re
import signal

import jax
import numpy as np
import pytest
from jobs import tiny
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import flowdistill
from flowdistill.jobs import convert, train
from flowdistill.samplers.solve import noise
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.export import Export, write
from flowdistill.stages.export_check import check
from flowdistill.stages.trained import conditions
from flowdistill.training.watchdog import AGAIN

torch = pytest.importorskip('torch')
diffusers = pytest.importorskip('diffusers')
pytest.importorskip('peft')
pytestmark = pytest.mark.slow

SIDE, FACTOR, CHANNELS = 24, 2, 4
LATENT = SIDE // FACTOR
LENGTH, WIDTH = 3, 8  # every caption has three words or more, so no padding
WEIGHTS = 'diffusion_pytorch_model.safetensors'
PROMPTS = ['a red circle', 'two blue squares']
SCALE, SHIFT = 0.8, 0.1
VAE = {
  'latent_channels': CHANNELS,
  'block_out_channels': (8, 8),
  'layers_per_block': 1,
  'norm_num_groups': 4,
  'use_quant_conv': False,
  'use_post_quant_conv': False,
}
SHARED = {
  'num_layers': 2,
  'attention_head_dim': 8,
  'num_attention_heads': 2,
  'joint_attention_dim': WIDTH,
  'pooled_projection_dim': WIDTH // 2,
}
FLUX = {
  **SHARED,
  'in_channels': 4 * CHANNELS,
  'num_layers': 1,
  'num_single_layers': 1,
  'guidance_embeds': True,
  'axes_dims_rope': (2, 4, 2),
}
SD3 = {
  **SHARED,
  'sample_size': LATENT,
  'in_channels': CHANNELS,
  'out_channels': CHANNELS,
  'caption_projection_dim': 16,
  'pos_embed_max_size': 6,
  'dual_attention_layers': (0,),
  'qk_norm': 'rms_norm',
}
KINDS = {
  'flux': ('FluxTransformer2DModel', 'FluxPipeline', FLUX),
  'sd3': ('SD3Transformer2DModel', 'StableDiffusion3Pipeline', SD3),
}
LAYERS = {
  'flux': ('*.each.*project.*y', '*.each.*project.value', '*.each.*up'),
  'sd3': ('blocks_*.project.*y', 'blocks_*.project.value', 'blocks_*.out'),
}
STAGES = {
  'ayf': {'name': 'ayf_emd', 'warmup_steps': 20},
  'twinflow': {'name': 'twinflow', 'distil': True},
}
STEPS = 50


def config_of(network, base, vae):
  """Stages that start from a folder of diffusers, and are taught by it."""
  text = {'name': 'random_features', 'length': LENGTH, 'width': WIDTH}
  lora = {'layers': LAYERS[network], 'rank': 2, 'alpha': 4.0}
  options = {'name': network, **KINDS[network][2], 'target_time': 'midpoint'}
  shared = {'init_from': str(base), 'frozen': {'teacher': str(base)}}
  return {
    'dataset': {'name': 'shapes', 'size': SIDE, 'text': text},
    'space': {
      'name': 'kl',
      'path': str(vae),
      'scaling_factor': SCALE,
      'shift_factor': SHIFT,
      **VAE,
    },
    'network': options,
    'train': {'steps': STEPS, 'batch_size': 2},
    'optim': {'schedule': {'name': 'constant', 'learning_rate': 0.02}},
    'checkpoint': {'every': {'steps': 25}},
    'log': {'every': 1},
    'evaluators': {},
    'stages': {
      name: {**shared, 'lora': lora, 'objective': objective}
      for name, objective in STAGES.items()
    },
  }


def saved_by_diffusers(network, folder):
  """The folders of a transformer and of an autoencoder, drawn."""
  torch.manual_seed(0)
  kind, _, options = KINDS[network]
  getattr(diffusers, kind)(**options).save_pretrained(folder / 'transformer')
  levels = len(VAE['block_out_channels'])
  diffusers.AutoencoderKL(
    down_block_types=('DownEncoderBlock2D',) * levels,
    up_block_types=('UpDecoderBlock2D',) * levels,
    scaling_factor=SCALE,
    shift_factor=SHIFT,
    **VAE,
  ).save_pretrained(folder / 'vae')
  return folder / 'transformer', folder / 'vae'


def lines(workdir, stage):
  path = workdir / stage / 'metrics.jsonl'
  return path.read_text().splitlines() if path.is_file() else []


@pytest.fixture(scope='module', params=KINDS)
def story(request, tmp_path_factory):
  """(network, folder of what diffusers has saved, workdir, stages)."""
  network, folder = request.param, tmp_path_factory.mktemp(request.param)
  base, vae = saved_by_diffusers(network, folder)
  weights = vae / WEIGHTS
  source = folder / 'config.py'
  found = config_of(network, base, weights)
  source.write_text(f'def get_config(arg=""):\n  return {found!r}\n')
  workdir = folder / 'run'
  process = tiny.start(workdir, source)
  output = tiny.send_when(
    process, lambda: len(lines(workdir, 'ayf')) > 9, signal.SIGTERM, seconds=400
  )
  assert process.returncode == AGAIN, output
  assert len(lines(workdir, 'ayf')) < STEPS
  specs = tiny.stages(source)
  train.run(tiny.check_here(specs, workdir), train.Options())
  return network, folder, workdir, specs


def tensor(array):
  return torch.from_numpy(np.array(array, np.float32))


def velocity(network, model, x, t, s, cond):
  """The network of one time at t − (t − s) / 2, of latents [b, c, h, w]."""
  _, pipeline, _ = KINDS[network]
  time = torch.full((len(x),), t - (t - s) / 2)
  given = {
    'encoder_hidden_states': tensor(cond['text']),
    'pooled_projections': tensor(cond['pooled']),
    'return_dict': False,
  }
  if network == 'sd3':
    return model(hidden_states=x, timestep=1000 * time, **given)[0]
  kind, sides = getattr(diffusers, pipeline), (LATENT, LATENT)
  half = LATENT // 2
  packed = model(
    hidden_states=kind._pack_latents(x, len(x), CHANNELS, *sides),
    timestep=time,
    guidance=torch.full((len(x),), 3.5),
    img_ids=kind._prepare_latent_image_ids(len(x), half, half, 'cpu', x.dtype),
    txt_ids=torch.zeros(LENGTH, 3),
    **given,
  )[0]
  return kind._unpack_latents(packed, SIDE, SIDE, FACTOR)


@torch.no_grad()
def sampled_there(network, model, vae, x1, cond, nfe):
  """Latents and pictures by the jumps x_s = x_t + (s − t) u, [b, h, w, c]."""
  x, grid = tensor(x1).permute(0, 3, 1, 2), np.linspace(1, 0, nfe + 1)
  for t, s in itertools.pairwise(grid):
    x = x + (s - t) * velocity(network, model, x, t, s, cond)
  pictures = vae.decode(x / SCALE + SHIFT).sample
  return [y.permute(0, 2, 3, 1).numpy() for y in (x, pictures)]


def sampled_here(run, nfe):
  """Noise, conditions, latents and pictures by `flow_map`."""
  generator = run.stage.generator('student')
  blueprint = run.stage.blueprint
  cond = conditions(blueprint, len(PROMPTS), prompts=PROMPTS, first=0)
  latents = dataclasses.replace(generator, space=None)
  how = {'sampler': 'flow_map', 'nfe': nfe, 'cond': cond}
  x1, _ = noise()(
    jax.random.key(0), np.arange(len(PROMPTS)), blueprint.sees.shape
  )
  found = (each(len(PROMPTS), **how).x for each in (latents, generator))
  return np.asarray(x1), cond, *found


def with_lora(network, model, file):
  """The base with a file of LoRA, by the pipeline's own loader."""
  kind = getattr(diffusers, KINDS[network][1])
  known = inspect.signature(kind.__init__).parameters
  others = {
    k: None
    for k, p in known.items()
    if k not in ('self', 'transformer') and p.default is p.empty
  }
  pipeline = kind(**others, transformer=model)
  pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
  return pipeline.transformer


def nothing_for_text(network):
  """A pipeline's text encoders, as None."""
  kind = getattr(diffusers, KINDS[network][1])
  known = inspect.signature(kind.__init__).parameters
  return {k: None for k in known if k.startswith(('text_enc', 'tokenizer'))}


def saved_pipeline(network, folder):
  """The pipeline of what is there, without text encoders."""
  kind = getattr(diffusers, KINDS[network][1])
  vae = diffusers.AutoencoderKL.from_pretrained(folder / 'vae')
  transformer = getattr(diffusers, KINDS[network][0]).from_pretrained(
    folder / 'transformer'
  )
  kind(
    **nothing_for_text(network),
    vae=vae,
    transformer=transformer,
    scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
  ).save_pretrained(folder / 'pipeline')
  return folder / 'pipeline'


@pytest.mark.parametrize('stage', STAGES)
def test_it_continued_where_it_was_killed(story, stage):
  _, _, workdir, _ = story
  steps = [json.loads(line)['step'] for line in lines(workdir, stage)]
  assert steps == list(range(1, STEPS + 1))


@pytest.mark.parametrize('stage', STAGES)
def test_diffusers_samples_what_we_sample(story, stage, tmp_path):
  network, folder, workdir, specs = story
  written = functools.partial(convert.Options, stage=stage, check=True)
  to, file = tmp_path / 'transformer', tmp_path / 'lora.safetensors'
  tiny.run(convert, specs, workdir, written(to=str(to)))
  tiny.run(convert, specs, workdir, written(to=str(file), as_='lora'))
  kind = getattr(diffusers, KINDS[network][0])
  merged = kind.from_pretrained(to).eval()
  base = kind.from_pretrained(folder / 'transformer').eval()
  vae = diffusers.AutoencoderKL.from_pretrained(folder / 'vae').eval()
  run = flowdistill.load(workdir, stage=stage)
  for nfe in (1, 2):
    x1, cond, *ours = sampled_here(run, nfe)
    assert cond['mask'].all()
    there = functools.partial(
      sampled_there, network, vae=vae, x1=x1, cond=cond, nfe=nfe
    )
    before, _ = there(base)
    theirs = there(merged)
    assert np.abs(before - theirs[0]).max() > 0.01  # it has learned something
    for x, y in zip(theirs, ours, strict=True):
      np.testing.assert_allclose(x, y, atol=1e-3)
  for x, y in zip(there(with_lora(network, base, file)), theirs, strict=True):
    np.testing.assert_allclose(x, y, atol=1e-3)


def test_a_pipeline_draws_what_we_draw(story, tmp_path):
  network, folder, workdir, specs = story
  base, to = saved_pipeline(network, folder), tmp_path / 'student'
  tiny.run(
    convert,
    specs,
    workdir,
    convert.Options(
      stage='ayf', to=str(to), pipeline=str(base), nfe=2, check=True
    ),
  )
  pipeline = diffusers.DiffusionPipeline.from_pretrained(
    to, trust_remote_code=True, **nothing_for_text(network)
  )
  x1, cond, _, ours = sampled_here(flowdistill.load(workdir, stage='ayf'), 2)
  noise = tensor(x1).permute(0, 3, 1, 2)
  if network == 'flux':
    noise = pipeline._pack_latents(noise, len(x1), CHANNELS, LATENT, LATENT)
  drawn = pipeline(
    prompt_embeds=tensor(cond['text']),
    pooled_prompt_embeds=tensor(cond['pooled']),
    latents=noise,
    height=SIDE,
    width=SIDE,
    output_type='np',
  ).images
  wanted = np.clip(ours / 2 + 0.5, 0, 1)
  assert np.ptp(wanted) > 0.1
  np.testing.assert_allclose(drawn, wanted, atol=1e-3)


def test_a_damaged_export_is_found(story, tmp_path):
  _, _, workdir, specs = story
  blueprint = Blueprints(specs, workdir)['ayf']
  for name, form, ends, message in (
    ('transformer', 'merged', 'proj_out.weight', 'diffusers answers otherwise'),
    ('a.safetensors', 'lora', 'lora_B.weight', r'diffusers updates \S+weight'),
  ):
    to, export = tmp_path / name, Export(form=form)
    write(blueprint, to, export)
    assert check(blueprint, to, export).relative < 1e-3
    file = to / WEIGHTS if to.is_dir() else to
    arrays = load_file(file)
    with safe_open(file, 'numpy') as opened:
      metadata = opened.metadata()
    damaged = [n for n in arrays if n.endswith(ends)][-1]
    arrays[damaged] *= 1.1
    save_file(arrays, file, metadata)
    with pytest.raises(ValueError, match=message):
      check(blueprint, to, export)
    del arrays[damaged]
    save_file(arrays, file, metadata)
    with pytest.raises(ValueError, match=f'^{re.escape(str(to))}: '):
      check(blueprint, to, export)
