# docker build --file launch/docker/tpu.Dockerfile --tag flowdistill:tpu .
#
# For launch/gke.sh; libtpu is installed as a wheel.
FROM python:3.12-slim-bookworm
WORKDIR /flowdistill
COPY setup.py pyproject.toml README.md LICENSE ./
COPY flowdistill flowdistill
RUN pip install --no-cache-dir --editable '.[tpu]'
COPY configs configs
