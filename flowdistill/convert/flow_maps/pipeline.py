"""Pipelines of FLUX.1 and SD3 as flow maps, in a few jumps from noise.

  from diffusers import DiffusionPipeline

  pipeline = DiffusionPipeline.from_pretrained(FOLDER, trust_remote_code=True)
  pipeline('a red square').images[0].save('square.png')

model_index.json has the step times that a picture is drawn with by default,
1.0 the noise, and the guidance scale that the flow map is told, if it takes
one. There is no classifier-free guidance: each jump is one call.

This file is part of flowdistill, which has written it beside the weights.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import FluxPipeline, StableDiffusion3Pipeline
from diffusers.pipelines.flux.pipeline_output import FluxPipelineOutput
from diffusers.pipelines.stable_diffusion_3.pipeline_output import (
  StableDiffusion3PipelineOutput,
)
from torch import Tensor


class FewJumps:
  """What both pipelines share."""

  @torch.no_grad()
  def __call__(
    self,
    prompt: str | list[str] | None = None,
    *,
    height: int | None = None,
    width: int | None = None,
    num_inference_steps: int | None = None,
    sigmas: Sequence[float] | None = None,
    guidance_scale: float | None = None,
    generator: Any = None,
    latents: Tensor | None = None,
    output_type: str = 'pil',
    return_dict: bool = True,
    **texts: Any,
  ) -> Any:
    """Pictures of prompts.

    Args:
      num_inference_steps: number of jumps, of equal length; by default those of
        the step times.
      sigmas: the times at which jumps begin, from 1.0 downwards.
      guidance_scale: that the flow map is told, if it takes one.
      latents: noise; of FLUX.1 it is packed.
      texts: of `encode_prompt`, such as prompt_2, prompt_embeds and
        num_images_per_prompt.
      The others are those of the pipeline of diffusers.
    """
    scale, given = self._scale(guidance_scale), self._encoded(prompt, **texts)
    side = self.default_sample_size * self.vae_scale_factor
    size = height or side, width or side
    latents, more = self._noise(
      given['encoder_hidden_states'], size, generator, latents
    )
    self._set_times(num_inference_steps, sigmas)
    pictures = self._jump(latents, scale, **given, **more)
    if output_type != 'latent':
      pictures = self._decoded(self._unpacked(pictures, size), output_type)
    self.maybe_free_model_hooks()
    return self.answer(images=pictures) if return_dict else (pictures,)

  def _unpacked(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
    """Latents [b, c, h, w] of pictures of a size in pixels."""
    del size
    return latents

  def _record(self, *, classifier_free_guidance: bool, **options: Any) -> None:
    """Keeps what model_index.json says of sampling."""
    if classifier_free_guidance:
      raise ValueError(
        'classifier_free_guidance must be false: a jump is one call'
      )
    self.register_to_config(classifier_free_guidance=False, **options)

  def _set_times(
    self, num_inference_steps: int | None, sigmas: Sequence[float] | None
  ) -> None:
    """The times t and s of every jump follow from a number, or a list."""
    if num_inference_steps is None and sigmas is None:
      sigmas = list(self.config.step_times)
    given = {'sigmas': sigmas} if sigmas is not None else {}
    self.scheduler.set_timesteps(
      num_inference_steps, device=self._execution_device, **given
    )

  def _scale(self, guidance_scale: float | None) -> float | None:
    """The guidance scale that the transformer is told, None for none."""
    if self.transformer.config.takes_guidance:
      given = guidance_scale
      return self.config.guidance_scale if given is None else given
    if guidance_scale is not None:
      raise ValueError(
        f'guidance_scale={guidance_scale} has no effect: this flow map was '
        'distilled for one guidance'
      )
    return None

  def _jump(self, latents: Tensor, scale: float | None, **given: Any) -> Tensor:
    """From noise to a picture, in latents."""
    size, times = len(latents), self.scheduler.sigmas
    if scale is not None:
      given['scale'] = torch.full((size,), scale, device=latents.device)
    with self.progress_bar(total=len(times) - 1) as bar:
      for i, timestep in enumerate(self.scheduler.timesteps):
        velocity = self.transformer(
          hidden_states=latents,
          timestep=times[i].expand(size).float(),
          target=times[i + 1].expand(size).float(),
          return_dict=False,
          **given,
        )[0]
        latents = self.scheduler.step(velocity, timestep, latents).prev_sample
        bar.update()
    return latents

  def _decoded(self, latents: Tensor, output_type: str) -> Any:
    config = self.vae.config
    latents = latents / config.scaling_factor + (config.shift_factor or 0)
    pictures = self.vae.decode(latents, return_dict=False)[0]
    return self.image_processor.postprocess(pictures, output_type=output_type)


class FlowMapFluxPipeline(FewJumps, FluxPipeline):
  """FLUX.1 in a few jumps."""

  answer = FluxPipelineOutput

  def __init__(
    self,
    scheduler: Any,
    vae: Any,
    text_encoder: Any,
    tokenizer: Any,
    text_encoder_2: Any,
    tokenizer_2: Any,
    transformer: Any,
    image_encoder: Any = None,
    feature_extractor: Any = None,
    step_times: list = (1.0,),
    guidance_scale: float | None = None,
    distilled_guidance: float | None = 3.5,
    classifier_free_guidance: bool = False,
  ):
    FluxPipeline.__init__(
      self,
      scheduler=scheduler,
      vae=vae,
      text_encoder=text_encoder,
      tokenizer=tokenizer,
      text_encoder_2=text_encoder_2,
      tokenizer_2=tokenizer_2,
      transformer=transformer,
      image_encoder=image_encoder,
      feature_extractor=feature_extractor,
    )
    self._record(
      step_times=step_times,
      guidance_scale=guidance_scale,
      distilled_guidance=distilled_guidance,
      classifier_free_guidance=classifier_free_guidance,
    )

  def _encoded(
    self, prompt: Any, prompt_2: Any = None, **texts: Any
  ) -> dict[str, Any]:
    embeds, pooled, ids = self.encode_prompt(
      prompt, prompt_2, device=self._execution_device, **texts
    )
    return {
      'encoder_hidden_states': embeds,
      'pooled_projections': pooled,
      'txt_ids': ids,
    }

  def _noise(
    self,
    embeds: Tensor,
    size: tuple[int, int],
    generator: Any,
    latents: Tensor | None,
  ) -> tuple[Tensor, dict[str, Any]]:
    config, device = self.transformer.config, self._execution_device
    channels = config.in_channels // 4  # a token has 2 x 2 places
    latents, ids = self.prepare_latents(
      len(embeds), channels, *size, embeds.dtype, device, generator, latents
    )
    if not config.guidance_embeds:
      return latents, {'img_ids': ids}
    scale = self.config.distilled_guidance
    guidance = torch.full((len(latents),), scale, device=device)
    return latents, {'img_ids': ids, 'guidance': guidance}

  def _unpacked(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
    return self._unpack_latents(latents, *size, self.vae_scale_factor)


class FlowMapSD3Pipeline(FewJumps, StableDiffusion3Pipeline):
  """Stable Diffusion 3 or 3.5 in a few jumps."""

  answer = StableDiffusion3PipelineOutput

  def __init__(
    self,
    transformer: Any,
    scheduler: Any,
    vae: Any,
    text_encoder: Any,
    tokenizer: Any,
    text_encoder_2: Any,
    tokenizer_2: Any,
    text_encoder_3: Any,
    tokenizer_3: Any,
    image_encoder: Any = None,
    feature_extractor: Any = None,
    step_times: list = (1.0,),
    guidance_scale: float | None = None,
    classifier_free_guidance: bool = False,
  ):
    StableDiffusion3Pipeline.__init__(
      self,
      transformer=transformer,
      scheduler=scheduler,
      vae=vae,
      text_encoder=text_encoder,
      tokenizer=tokenizer,
      text_encoder_2=text_encoder_2,
      tokenizer_2=tokenizer_2,
      text_encoder_3=text_encoder_3,
      tokenizer_3=tokenizer_3,
      image_encoder=image_encoder,
      feature_extractor=feature_extractor,
    )
    self._record(
      step_times=step_times,
      guidance_scale=guidance_scale,
      classifier_free_guidance=classifier_free_guidance,
    )

  def _encoded(
    self, prompt: Any, prompt_2: Any = None, prompt_3: Any = None, **texts: Any
  ) -> dict[str, Any]:
    embeds, _, pooled, _ = self.encode_prompt(
      prompt,
      prompt_2,
      prompt_3,
      device=self._execution_device,
      do_classifier_free_guidance=False,
      **texts,
    )
    return {'encoder_hidden_states': embeds, 'pooled_projections': pooled}

  def _noise(
    self,
    embeds: Tensor,
    size: tuple[int, int],
    generator: Any,
    latents: Tensor | None,
  ) -> tuple[Tensor, dict[str, Any]]:
    channels, device = (
      self.transformer.config.in_channels,
      self._execution_device,
    )
    latents = self.prepare_latents(
      len(embeds), channels, *size, embeds.dtype, device, generator, latents
    )
    return latents, {}
