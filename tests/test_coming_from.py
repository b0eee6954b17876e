"""Every option and command of the systems that we replace has a row."""

import pathlib
import re

import pytest

DOCS = pathlib.Path(__file__).parents[1] / 'docs' / 'coming_from.md'
# The keys of both config files of SlimFlow, by section.
SLIMFLOW = {
  '': 'work_dir expr seed',
  'training': 'batch_size n_iters snapshot_freq log_freq eval_freq '
  'snapshot_freq_for_preemption snapshot_sampling likelihood_weighting '
  'continuous reduce_mean loss_type x0_randomness resume_from '
  'accumulation_steps record_iters weight_schedule progress',
  'flow': 'eps flow_t_schedule flow_alpha_t pre_train_model h_flip use_teacher '
  'consistency ema_schedule step_schedule initial_timesteps',
  'sampling': 'n_steps_each noise_removal probability_flow snr sigma_variance '
  'init_noise_scale use_ode_sampler ode_tol sample_N method init_type '
  'batch_size direction total_number_of_samples train_subset class_label rho',
  'eval': 'begin_ckpt end_ckpt batch_size enable_sampling num_samples '
  'enable_loss enable_bpd bpd_dataset',
  'data': 'dataset image_size random_flip centered uniform_dequantization '
  'num_channels use_aug num_classes reflow_data_root custom_data_root',
  'model': 'sigma_min sigma_max num_scales beta_min beta_max dropout '
  'embedding_type name scale_by_sigma ema_rate normalization nonlinearity nf '
  'ch_mult num_res_blocks attn_resolutions resamp_with_conv conditional fir '
  'fir_kernel skip_rescale resblock_type progressive progressive_input '
  'progressive_combine attention_type init_scale fourier_scale conv_size',
  'optim': 'weight_decay optimizer lr beta1 eps warmup grad_clip',
}
COMMANDS = {
  'SlimFlow': 'train.py evaluation_fid.py image_sampling.py generate_data.py '
  '--ckpt_path --data_root --ckpt_dir --sampling_dir --target_path --data_dir '
  '--use_ema --calc_flops --z0_path --z1_path',
  'Flow Image Generator': 'mnist_train.py mnist_test.py generate_sample '
  'rectified_flow_train.py sample_from_checkpoint DATA_ROOT EPOCHS BATCH LR '
  'NUM_WORKERS ema_state model_state ConditionalUNet flow_matching_mnist.pth '
  'checkpoints/rf_best.pth checkpoints/epoch_N.pth checkpoint_path out_path '
  'steps batch_size img_size',
  'TwinFlow': 'probs consistc_ratio enhanced_ratio enhanced_range '
  'estimate_order ema_decay_rate time_dist_ctrl loss_func_type dist_match_cof '
  'use_image_free sampling_style sampling_steps sampling_order stochast_ratio '
  'extrapol_ratio rfba_gap_steps cfg_scale cfg_interval ckpt transport_type '
  'train_dirs height width text image_bytes control_image encode_prompt '
  'micro_batch_size grad_accumulation_steps num_train_epochs seed output_dir '
  'load_checkpoint_path optimizer lr betas weight_decay max_grad_norm '
  'lora_rank lora_alpha lora_target_modules aux_time_embed inference.py '
  'scripts/openuni/sample_demo.sh '
  'openuni_full_imgfree.yaml openuni_lora_1order.yaml openuni_lora_2order.yaml',
  'EDM2': 'train_edm2.py generate_images.py reconstruct_phema.py '
  'calculate_metrics.py dataset_tool.py count_flops.py '
  'edm2-img512-s-2147483-0.070.pkl --outdir --data --cond --preset --duration '
  '--batch --channels --dropout --P_mean --P_std --lr --decay --batch-gpu '
  '--fp16 --ls --bench --status --snapshot --checkpoint --seed --dry-run --net '
  '--gnet --seeds --class --steps --sigma_min --sigma_max --rho --guidance '
  '--S_churn --S_min --S_max --S_noise --metrics --ref --num img_resolution '
  'img_channels label_dim use_fp16 sigma_data logvar_channels model_channels '
  'channel_mult channel_mult_noise channel_mult_emb num_blocks '
  'attn_resolutions label_balance concat_balance resample_filter '
  'channels_per_head res_balance attn_balance clip_act force_fp32 '
  'return_logvar EDM2Loss PowerFunctionEMA --indir --inprefix --instd '
  '--outprefix --outstd --outkimg --skip',
  'EDM': 'train.py generate.py fid.py edm-cifar10-32x32-cond-vp.pkl --outdir '
  '--data --cond --arch ncsnpp ddpmpp adm --precond --duration '
  '--batch --batch-gpu --cbase --cres --lr --ema --dropout --augment --xflip '
  '--fp16 --ls --bench --cache --workers --tick --snap --dump --seed '
  '--transfer --resume --dry-run --network --seeds --class --steps --sigma_min '
  '--sigma_max --rho --S_churn --S_min --S_max --S_noise --solver --disc '
  '--schedule --scaling img_resolution img_channels label_dim augment_dim '
  'model_channels channel_mult channel_mult_emb num_blocks attn_resolutions '
  'label_dropout embedding_type channel_mult_noise encoder_type decoder_type '
  'resample_filter use_fp16 sigma_data beta_d beta_min M C_1 C_2 epsilon_t '
  'EDMPrecond VPPrecond VEPrecond iDDPMPrecond',
  'FastGen': 'train.py MeanFlowModel SCMModel CMModel TCMModel SFTModel '
  'KDModel DMD2Model FdistillModel LADDModel CausVidModel SelfForcingModel '
  'CausalSFTModel CausalKDModel use_cd use_squared_l2 use_jvp_finite_diff '
  'jvp_finite_diff_eps norm_method norm_const tangent_warmup_steps '
  'tangent_spatial_invariance loss_type tangent_warmup_const '
  'prior_weighting_enabled g_norm_spatial_invariance guidance_scale '
  'guidance_mixture_ratio guidance_t_start guidance_t_end sample_t_cfg '
  'sample_r_cfg time_dist_type train_p_mean train_p_std r_sample_ratio '
  'cond_dropout_prob cond_keys_no_dropout net net_optimizer net_scheduler '
  'use_ema precision precision_amp precision_amp_jvp input_shape '
  'student_sample_steps student_sample_type image_model_inference.py '
  '--ckpt_path --num_steps --classes compute_fid_from_ckpts.py',
  'SiT and MeanFlow': 'SiT-XL-2-256x256.pt input_size in_channels num_classes '
  'learn_sigma class_dropout_prob path_type prediction forward_with_cfg '
  'DiT-XL-2-256x256.pt DiT_B_4 ema_params imfDiT',
  'Align Your Flow': 'train_ayf.py generate.py main.py teacher_model_id '
  'autoguide_model_id name urls num_samples resolution num_workers output_dir '
  'num_epochs batch_size_per_gpu gradient_accumulation_steps lr_student '
  'lr_discriminator mixed_precision adversarial_start_epoch adv_loss_weight '
  'r1_reg_weight p_mean p_std warmup_iters tangent_norm_c autoguide_weight '
  '--checkpoint --outdir --num-images',
}


def named_in(section):
  """The options in the left column of a section's tables.

  A cell names the group of its first option, and that of those after it.
  """
  text = DOCS.read_text(encoding='utf-8')
  rows = re.split(r'^## ', text, flags=re.MULTILINE)
  (found,) = [part for part in rows if part.startswith(section + '\n')]
  names = set()
  for cell in re.findall(r'^\| (.*?) \| ', found, flags=re.MULTILINE):
    group = ''
    for quoted in re.findall(r'`([^`]*)`', cell):
      for word in re.split(r'[\s(),=]+', quoted):
        names.add(word)
        if match := re.match(r'(?:--)?config\.(\w+)\.\w+$', word):
          group = match[1]
          names.add(word.removeprefix('--').removeprefix('config.'))
        elif group:
          names.add(f'{group}.{word}')
        else:
          names.add(word.removeprefix('config.'))
  return names


@pytest.mark.parametrize('section', SLIMFLOW)
def test_every_option_of_slimflow_has_a_row(section):
  keys = {
    f'{section}.{key}' if section else key for key in SLIMFLOW[section].split()
  }
  assert keys - named_in('SlimFlow') == set()


@pytest.mark.parametrize('system', COMMANDS)
def test_every_command_has_a_row(system):
  assert set(COMMANDS[system].split()) - named_in(system) == set()


def test_a_row_that_is_missing_is_found():
  assert 'training.weight_schedul' not in named_in('SlimFlow')
  assert 'weight_schedule' not in named_in('TwinFlow')
