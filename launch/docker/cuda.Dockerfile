# docker build --file launch/docker/cuda.Dockerfile --tag flowdistill:cuda .
# docker run --rm --gpus=all --volume "$PWD/runs:/flowdistill/runs" \
#   flowdistill:cuda python -m flowdistill.main --config configs/quickstart.py \
#   --workdir runs/quickstart
#
# CUDA and cuDNN are installed as wheels; the machine needs the driver and the
# NVIDIA container toolkit.
FROM python:3.12-slim-bookworm
WORKDIR /flowdistill
COPY setup.py pyproject.toml README.md LICENSE ./
COPY flowdistill flowdistill
RUN pip install --no-cache-dir --editable '.[cuda]'
COPY configs configs
