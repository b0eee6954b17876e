"""LoRA in diffusers' own loader: that a file loads proves nothing, ΔW does."""

import inspect

import numpy as np
import pytest
from convert.lora_layers import assert_alike, drawn

from flowdistill.convert.lora import Factors
from flowdistill.convert.lora_files import (
  read_lora,
  write_diffusers,
  write_kohya,
)

torch = pytest.importorskip('torch')
diffusers = pytest.importorskip('diffusers')
peft = pytest.importorskip('peft')

pytestmark = pytest.mark.slow
FLUX = {
  'patch_size': 1,
  'in_channels': 8,
  'num_layers': 2,
  'num_single_layers': 2,
  'attention_head_dim': 8,
  'num_attention_heads': 2,
  'joint_attention_dim': 6,
  'pooled_projection_dim': 5,
  'guidance_embeds': True,
  'axes_dims_rope': [2, 2, 4],
}
SD3 = {
  'sample_size': 8,
  'patch_size': 2,
  'in_channels': 4,
  'out_channels': 4,
  'num_layers': 3,
  'attention_head_dim': 8,
  'num_attention_heads': 2,
  'joint_attention_dim': 6,
  'caption_projection_dim': 16,
  'pooled_projection_dim': 5,
  'pos_embed_max_size': 8,
  'dual_attention_layers': (0, 1),
  'qk_norm': 'rms_norm',
}
KINDS = {
  'flux': ('FluxTransformer2DModel', FLUX, 'FluxPipeline'),
  'sd3': ('SD3Transformer2DModel', SD3, 'StableDiffusion3Pipeline'),
}
FILE = 'lora.safetensors'


def transformer(network):
  torch.manual_seed(0)
  name, config, _ = KINDS[network]
  return getattr(diffusers, name)(**config)


def linear(model):
  """Name -> (out, in) of its linear layers."""
  return {
    name: tuple(module.weight.shape)
    for name, module in model.named_modules()
    if isinstance(module, torch.nn.Linear)
  }


def loaded(network, model, folder):
  """ΔW of all layers, from the weights that diffusers has fused."""
  kind = getattr(diffusers, KINDS[network][2])
  known = inspect.signature(kind.__init__).parameters
  others = {
    k: None
    for k, p in known.items()
    if k not in ('self', 'transformer') and p.default is inspect._empty
  }
  before = {n: x.clone() for n, x in model.state_dict().items()}
  pipeline = kind(**others, transformer=model)
  pipeline.load_lora_weights(str(folder), weight_name=FILE)
  pipeline.fuse_lora(components=['transformer'])
  pipeline.unload_lora_weights()
  after = model.state_dict()
  assert after.keys() == before.keys()
  return {n: (after[n] - before[n]).detach().numpy() for n in before}


@pytest.mark.parametrize('network', KINDS)
def test_every_layer_has_the_update_that_was_written(network, tmp_path):
  """With α other than r, and a layer of another rank."""
  model = transformer(network)
  lora = drawn(linear(model))
  lora['proj_out'] = drawn(linear(model), rank=3)['proj_out']
  write_diffusers(tmp_path / FILE, lora)
  deltas = loaded(network, model, tmp_path)
  for name, factors in lora.items():
    np.testing.assert_allclose(
      deltas.pop(f'{name}.weight'), factors.delta, atol=2e-5, err_msg=name
    )
  assert not any(delta.any() for delta in deltas.values())


@pytest.mark.parametrize('network', KINDS)
def test_what_diffusers_writes_is_read_with_its_update(network, tmp_path):
  """Of other ranks and α for some layers, which its metadata have."""
  model = transformer(network)
  config = peft.LoraConfig(
    r=2,
    lora_alpha=3,
    target_modules=['to_q', 'to_out.0', 'proj_out', 'ff.net.2'],
    rank_pattern={'to_q': 4},
    alpha_pattern={'ff.net.2': 5},
    init_lora_weights=False,
  )
  widths = linear(model)
  model.add_adapter(config)
  model.save_lora_adapter(tmp_path, weight_name=FILE)
  wanted = {
    name: module.get_delta_weight('default').detach().numpy()
    for name, module in model.named_modules()
    if isinstance(module, peft.tuners.lora.Linear)
  }
  found = read_lora(tmp_path / FILE, widths, network)
  assert found.keys() == wanted.keys()
  for name, delta in wanted.items():
    np.testing.assert_allclose(
      found[name].delta, delta, atol=2e-5, err_msg=name
    )


def test_kohya_is_turned_into_the_same_update(tmp_path):
  """Of blocks: diffusers gives other layers names that nothing loads.

  It takes fused layers of single blocks in the width of FLUX.1 alone.
  """
  wide = 3072
  widths = {n: s for n, s in linear(transformer('flux')).items() if '.0.' in n}
  widths = {n: s for n, s in widths.items() if 'blocks' in n}
  single = 'single_transformer_blocks.0.'
  widths |= {f'{single}attn.to_{x}': (wide, wide) for x in 'qkv'}
  widths[f'{single}proj_mlp'] = 4 * wide, wide
  lora = drawn(widths)
  write_kohya(tmp_path / FILE, lora, widths, 'flux')
  state = diffusers.FluxPipeline.lora_state_dict(
    str(tmp_path), weight_name=FILE
  )
  assert len(state) == 2 * len(lora)
  rng = np.random.default_rng(1)
  for name, factors in lora.items():
    a, b = (state[f'transformer.{name}.lora_{x}.weight'].numpy() for x in 'AB')
    x = rng.normal(size=a.shape[1])
    ratio = factors.alpha / factors.rank
    wanted = ratio * factors.b @ (factors.a @ x)
    np.testing.assert_allclose(b @ (a @ x), wanted, atol=1e-3, err_msg=name)
  found = read_lora(tmp_path / FILE, widths, 'flux')
  for name, factors in lora.items():
    assert found[name].rank == factors.rank
    np.testing.assert_array_equal(found[name].a, factors.a)


def test_a_pipeline_of_sd3_ignores_kohya_and_we_do_not(tmp_path):
  """Where diffusers learns to read it, its update must be compared."""
  model = transformer('sd3')
  widths = linear(model)
  lora = {n: f for n, f in drawn(widths).items() if 'blocks' in n}
  write_kohya(tmp_path / FILE, lora, widths, 'sd3')
  assert_alike(read_lora(tmp_path / FILE, widths, 'sd3'), lora)
  state = diffusers.StableDiffusion3Pipeline.lora_state_dict(
    str(tmp_path), weight_name=FILE
  )
  assert not any(name.startswith('transformer.') for name in state)


def test_factors_are_those_of_peft():
  """ΔW = (α / r) B A."""
  layer = torch.nn.Linear(5, 7)
  config = peft.LoraConfig(
    r=2, lora_alpha=3, target_modules=['0'], init_lora_weights=False
  )
  model = peft.get_peft_model(torch.nn.Sequential(layer), config)
  own = model.base_model.model[0]
  a, b = (
    getattr(own, x)['default'].weight.detach().numpy()
    for x in ('lora_A', 'lora_B')
  )
  wanted = own.get_delta_weight('default').detach().numpy()
  np.testing.assert_allclose(Factors(a, b, 3.0).delta, wanted, atol=1e-6)
