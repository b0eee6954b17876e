"""Tiny models and tokenizers of each text encoder, with random weights."""

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

from flowdistill.text_encoders.rows import CHAT, INSTRUCTION

TEXTS = ['a red square on a blue ground', 'two green circles', CHAT]
TEXTS += INSTRUCTION.split('\n')
SPECIAL = ['<pad>', '<s>', '</s>', '<|im_start|>', '<|im_end|>', '!']
CHATS = ('<|im_start|>', '<|im_end|>')


def tokenizer(folder, *, layout, pad='<pad>', most=77):
  """Byte pairs of the texts above; `layout` places the special tokens."""
  made = Tokenizer(models.BPE())
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  made.decoder = decoders.ByteLevel()
  letters = pre_tokenizers.ByteLevel.alphabet()
  trainer = trainers.BpeTrainer(
    vocab_size=400, special_tokens=SPECIAL, initial_alphabet=letters
  )
  made.train_from_iterator(TEXTS, trainer)
  ends = [(name, made.token_to_id(name)) for name in ('<s>', '</s>')]
  made.post_processor = TemplateProcessing(single=layout, special_tokens=ends)
  found = transformers.PreTrainedTokenizerFast(
    tokenizer_object=made,
    pad_token=pad,
    bos_token='<s>',
    eos_token='</s>',
    model_max_length=most,
    additional_special_tokens=list(CHATS),
  )
  found.save_pretrained(folder)
  return found


def saved(model, folder, std=0.1):
  """A model in eval mode, and its files in a folder."""
  model = model.eval()
  for parameter in model.parameters():  # the default is close to zero
    if parameter.ndim > 1:
      torch.nn.init.normal_(parameter, std=std)
  model.save_pretrained(folder)
  return model


SIZES = {
  'vocab_size': 400,
  'hidden_size': 16,
  'intermediate_size': 24,
  'num_hidden_layers': 3,
  'num_attention_heads': 2,
}
ENDS = {'pad_token_id': 0, 'bos_token_id': 1, 'eos_token_id': 2}


def clip(folder, *, width=16, projection=True, eos=2):
  config = transformers.CLIPTextConfig(
    **{**SIZES, 'hidden_size': width},
    **{**ENDS, 'eos_token_id': eos},
    max_position_embeddings=77,
    projection_dim=width,
  )
  if projection:
    return saved(transformers.CLIPTextModelWithProjection(config), folder)
  return saved(transformers.CLIPTextModel(config), folder)


def t5(folder, *, width=40):
  config = transformers.T5Config(
    vocab_size=400,
    d_model=width,
    d_kv=8,
    d_ff=24,
    num_layers=2,
    num_heads=2,
    feed_forward_proj='gated-gelu',
    dropout_rate=0.0,
  )
  return saved(transformers.T5EncoderModel(config), folder, 0.05)


def gemma(folder):
  config = transformers.Gemma2Config(
    **SIZES,
    **ENDS,
    num_key_value_heads=1,
    head_dim=8,
    sliding_window=64,
    max_position_embeddings=2048,
  )
  return saved(transformers.Gemma2Model(config), folder)


def qwen(folder):
  text = {
    **SIZES,
    **ENDS,
    'num_key_value_heads': 1,
    'max_position_embeddings': 2048,
    'rope_scaling': {
      'type': 'mrope',
      'rope_type': 'default',
      'mrope_section': [1, 1, 2],
    },
  }
  vision = {
    'depth': 1,
    'hidden_size': 16,
    'intermediate_size': 24,
    'num_heads': 2,
    'out_hidden_size': 16,
  }
  config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)
  return saved(transformers.Qwen2_5_VLForConditionalGeneration(config), folder)


def internvl(folder):
  text = {
    **SIZES,
    **ENDS,
    'hidden_size': 128,
    'num_key_value_heads': 1,
    'max_position_embeddings': 512,
    'model_type': 'qwen2',
  }
  vision = {
    'hidden_size': 16,
    'intermediate_size': 24,
    'num_hidden_layers': 1,
    'num_attention_heads': 2,
    'image_size': [28, 28],
    'patch_size': [14, 14],
  }
  config = transformers.InternVLConfig(
    text_config=text, vision_config=vision, downsample_ratio=0.5
  )
  return saved(transformers.InternVLForConditionalGeneration(config), folder)
