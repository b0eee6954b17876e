"""The published text encoders: how each one reads a prompt, as a row of data.

Sources: the pipelines of diffusers 0.42,
https://github.com/huggingface/diffusers; for Gemma 2 the configs of SANA, Xie
et al. (2024), https://arxiv.org/abs/2410.10629, section 3.1; for Qwen2.5-VL
"Qwen-Image Technical Report" (2025), https://arxiv.org/abs/2508.02324.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """A text encoder.

  Attributes:
    model: its class in transformers.
    length: tokens that are encoded by default.
    most: tokens that can be encoded.
    template: the text around a prompt, in place of {}.
    null: the template of the empty prompt, which stands for no prompt.
    lower: whether prompts are in lower case, without spaces around them.
    first: tokens at the beginning that are kept ...
    drop: ... before so many that are dropped; None drops those of the
      template before the prompt, but `first` and the last of them.
    layer: hidden state: -1 is the last, after the final norm.
    text: whether hidden states are an output.
    pooled: name of the output of transformers that is `pooled`; '' for none.
    masked: whether padding is ignored; else it is encoded like other tokens.
  """

  model: str
  length: int
  most: int
  template: str = '{}'
  null: str = '{}'
  lower: bool = False
  first: int = 0
  drop: int | None = 0
  layer: int = -1
  text: bool = True
  pooled: str = ''
  masked: bool = False


INSTRUCTION = '\n'.join(
  (
    "Given a user prompt, generate an 'Enhanced prompt' that provides detailed "
    'visual descriptions suitable for image generation. Evaluate the level of '
    'detail in the user prompt:',
    '- If the prompt is simple, focus on adding specifics about colors, '
    'shapes, sizes, textures, and spatial relationships to create vivid and '
    'concrete scenes.',
    '- If the prompt is already detailed, refine and enhance the existing '
    'details slightly without overcomplicating.',
    'Here are examples of how to transform or refine prompts:',
    '- User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat '
    'curled up in a round shape, sleeping peacefully on a warm sunny '
    'windowsill, surrounded by pots of blooming red flowers.',
    '- User Prompt: A busy city street -> Enhanced: A bustling city street '
    'scene at dusk, featuring glowing street lamps, a diverse crowd of people '
    'in colorful clothing, and a double-decker bus passing by towering glass '
    'skyscrapers.',
    'Please generate only the enhanced description for the prompt below and '
    'avoid including any additional commentary or evaluations:',
    'User Prompt: ',
  )
)
"""SANA's "complex human instruction", which its networks were trained with."""

CHAT = (
  '<|im_start|>system\nDescribe the image by detailing the color, shape, size, '
  'texture, quantity, text, spatial relationships of the objects and '
  'background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n'
  '<|im_start|>assistant\n'
)
"""Qwen-Image's, of which 34 tokens stand before the prompt."""

CLIP = Row(
  model='CLIPTextModelWithProjection',
  length=77,
  most=77,
  layer=-2,
  pooled='text_embeds',
)
T5 = Row(model='T5EncoderModel', length=512, most=4096)
ROWS = {
  'clip_l': CLIP,
  'clip_g': CLIP,
  't5_xxl': T5,
  'gemma_2': Row(
    model='Gemma2Model',
    length=300,
    most=4096,
    template=f'{INSTRUCTION}{{}}',
    lower=True,
    first=1,
    drop=None,
    masked=True,
  ),
  'qwen_2_5_vl': Row(
    model='Qwen2_5_VLModel',
    length=1024,
    most=1024,
    template=CHAT,
    null=CHAT.format(' '),
    drop=34,
    masked=True,
  ),
}
"""Name -> row."""
CLIP_POOLED = dataclasses.replace(
  CLIP, model='CLIPTextModel', text=False, pooled='pooler_output'
)
"""CLIP-L in FLUX: the state at the end of the caption, without projection."""
