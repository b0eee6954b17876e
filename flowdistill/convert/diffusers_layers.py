"""Our layers and those of diffusers, where several transformers have them."""

OUTSIDE = {
  'times.of_t.first': 'time_text_embed.timestep_embedder.linear_1',
  'times.of_t.second': 'time_text_embed.timestep_embedder.linear_2',
  'times.of_s.first': 'time_text_embed_2.timestep_embedder.linear_1',
  'times.of_s.second': 'time_text_embed_2.timestep_embedder.linear_2',
  'pooled.first': 'time_text_embed.text_embedder.linear_1',
  'pooled.second': 'time_text_embed.text_embedder.linear_2',
  'text': 'context_embedder',
  'modulation': 'norm_out.linear',
  'last': 'proj_out',
}
"""Those outside of blocks; diffusers has no second time, whose name is ours."""
JOINT = {
  'picture.modulation': 'norm1.linear',
  'picture.project.query': 'attn.to_q',
  'picture.project.key': 'attn.to_k',
  'picture.project.value': 'attn.to_v',
  'picture.project.query_scale': 'attn.norm_q',
  'picture.project.key_scale': 'attn.norm_k',
  'picture.out': 'attn.to_out.0',
  'picture.up': 'ff.net.0.proj',
  'picture.down': 'ff.net.2',
  'text.modulation': 'norm1_context.linear',
  'text.project.query': 'attn.add_q_proj',
  'text.project.key': 'attn.add_k_proj',
  'text.project.value': 'attn.add_v_proj',
  'text.project.query_scale': 'attn.norm_added_q',
  'text.project.key_scale': 'attn.norm_added_k',
  'text.out': 'attn.to_add_out',
  'text.up': 'ff_context.net.0.proj',
  'text.down': 'ff_context.net.2',
}
"""Those of a block of joint attention of a text and a picture."""
