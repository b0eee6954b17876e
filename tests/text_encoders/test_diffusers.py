"""Each row is its pipeline's `encode_prompt` of diffusers, on random weights.

Prompts are short, long enough to be cut, and empty; padding is compared where
it takes part.
"""

import inspect

import numpy as np
import pytest

from flowdistill.text_encoders import TEXT_ENCODERS
from flowdistill.text_encoders.rows import CHAT, INSTRUCTION
from flowdistill.text_encoders.running import Running

torch = pytest.importorskip('torch')
pytest.importorskip('transformers')
diffusers = pytest.importorskip('diffusers')
tiny = pytest.importorskip('text_encoders.tiny_models')

pytestmark = pytest.mark.slow
PROMPTS = [
  'a red square',
  ' Two GREEN circles, on a {blue} ground ',
  '🔥 صورة حصان',
  'a red square on a blue ground ' * 300,
]


@pytest.fixture(autouse=True)
def _seeded():
  torch.manual_seed(0)


def pipeline(name, **parts):
  """A pipeline with only these parts."""
  kind = getattr(diffusers, name)
  known = inspect.signature(kind.__init__).parameters
  others = {k: None for k in known if k not in ('self', *parts)}
  others = {
    k: v for k, v in others.items() if known[k].default is inspect._empty
  }
  return kind(**others, **parts)


def close(ours, theirs):
  """Within 1e-5 of the largest number: batches of other sizes round so."""
  largest = np.abs(theirs).max()
  assert largest > 0.1
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * largest)


def assert_close(ours, theirs):
  theirs = theirs.detach().numpy()
  assert ours.shape == theirs.shape
  close(ours, theirs)


def assert_masked(ours, embeds, mask):
  """Equal masks, and equal states of real tokens; ours is 0 elsewhere."""
  mask, theirs = mask.numpy().astype(bool), embeds.detach().numpy()
  n = mask.shape[1]
  np.testing.assert_array_equal(ours['mask'][:, :n], mask)
  assert not ours['mask'][:, n:].any()
  close(ours['text'][ours['mask']], theirs[mask])
  assert not ours['text'][~ours['mask']].any()


def encode(name, prompts, **options):
  encoder = TEXT_ENCODERS[name](running=Running(batch_size=3), **options)
  encoder.check()
  return encoder.encode(prompts)


def clip_and_t5(folder, clip_width):
  parts = {
    'text_encoder': tiny.clip(
      folder / 'clip', width=clip_width, projection=False, eos=2
    ),
    'tokenizer': tiny.tokenizer(
      folder / 'clip_tokens', layout='<s> $A </s>', pad='</s>'
    ),
    'text_encoder_2': tiny.t5(folder / 't5'),
    'tokenizer_2': tiny.tokenizer(
      folder / 't5_tokens', layout='$A </s>', most=512
    ),
  }
  options = {
    'clip_l': f'{folder}/clip',
    'clip_l_tokenizer': f'{folder}/clip_tokens',
    't5_xxl': f'{folder}/t5',
    't5_xxl_tokenizer': f'{folder}/t5_tokens',
  }
  return parts, options


@pytest.mark.parametrize('length', [512, 7])
def test_flux(tmp_path, length):
  parts, options = clip_and_t5(tmp_path, 16)
  prompts = [*PROMPTS, '']
  embeds, pooled, _ = pipeline('FluxPipeline', **parts).encode_prompt(
    prompts, max_sequence_length=length
  )
  ours = encode('flux', prompts, length=length, **options)
  assert ours.keys() == {'text', 'pooled'}
  assert_close(ours['text'], embeds)
  assert_close(ours['pooled'], pooled)


@pytest.mark.parametrize('eos', [2, 1])
@pytest.mark.parametrize('whole', [True, False])
def test_sd3(tmp_path, whole, eos):
  parts = {}
  for k, (name, width, pad) in enumerate(
    [('clip_l', 16, '</s>'), ('clip_g', 24, '!')], 1
  ):
    end = '' if k == 1 else f'_{k}'
    parts[f'text_encoder{end}'] = tiny.clip(
      tmp_path / name, width=width, eos=eos
    )
    parts[f'tokenizer{end}'] = tiny.tokenizer(
      tmp_path / f'{name}_tokens', layout='<s> $A </s>', pad=pad
    )
  options = {
    f'{name}{end}': f'{tmp_path}/{name}{folder}'
    for name in ('clip_l', 'clip_g')
    for end, folder in (('', ''), ('_tokenizer', '_tokens'))
  }
  if whole:
    parts['text_encoder_3'] = tiny.t5(tmp_path / 't5', width=48)
    parts['tokenizer_3'] = tiny.tokenizer(
      tmp_path / 't5_tokens', layout='$A </s>', most=512
    )
    options['t5_xxl'] = f'{tmp_path}/t5'
    options['t5_xxl_tokenizer'] = f'{tmp_path}/t5_tokens'
  else:  # which is as wide as the network asks for
    parts['transformer'] = diffusers.SD3Transformer2DModel(
      num_layers=1,
      num_attention_heads=1,
      attention_head_dim=8,
      caption_projection_dim=8,
      joint_attention_dim=4096,
      pooled_projection_dim=40,
      pos_embed_max_size=8,
    )
  made = pipeline('StableDiffusion3Pipeline', **parts)
  embeds, null, pooled, null_pooled = made.encode_prompt(PROMPTS, None, None)
  ours = encode('sd3', [*PROMPTS, ''], **options)
  assert ours.keys() == {'text', 'pooled'}
  assert_close(ours['text'], torch.cat([embeds, null[:1]]))
  assert_close(ours['pooled'], torch.cat([pooled, null_pooled[:1]]))


@pytest.mark.parametrize('length', [300, 9])
def test_sana(tmp_path, length):
  model = tiny.gemma(tmp_path / 'gemma')
  tokenizer = tiny.tokenizer(tmp_path / 'tokens', layout='<s> $A', most=4096)
  made = pipeline('SanaPipeline', text_encoder=model, tokenizer=tokenizer)
  call = inspect.signature(type(made).__call__)
  instruction = call.parameters['complex_human_instruction'].default
  assert '\n'.join(instruction) == INSTRUCTION
  embeds, mask, null, null_mask = made.encode_prompt(
    PROMPTS,
    max_sequence_length=length,
    complex_human_instruction=instruction,
    device=torch.device('cpu'),
  )
  ours = encode(
    'gemma_2',
    [*PROMPTS, ''],
    length=length,
    path=f'{tmp_path}/gemma',
    tokenizer=f'{tmp_path}/tokens',
  )
  assert_masked(
    ours, torch.cat([embeds, null[:1]]), torch.cat([mask, null_mask[:1]])
  )


@pytest.mark.parametrize('length', [1024, 40])
def test_qwen_image(tmp_path, length):
  """Its null is a single space."""
  model = tiny.qwen(tmp_path / 'qwen')
  tokenizer = tiny.tokenizer(tmp_path / 'tokens', layout='$A', most=4096)
  made = pipeline('QwenImagePipeline', text_encoder=model, tokenizer=tokenizer)
  assert made.prompt_template_encode == CHAT
  embeds, mask = made.encode_prompt(
    [*PROMPTS, ' '],
    max_sequence_length=length,
    device=torch.device('cpu'),
  )
  if mask is None:
    mask = torch.ones(embeds.shape[:2])
  ours = encode(
    'qwen_2_5_vl',
    [*PROMPTS, ''],
    length=length,
    path=f'{tmp_path}/qwen',
    tokenizer=f'{tmp_path}/tokens',
  )
  assert_masked(ours, embeds, mask)
