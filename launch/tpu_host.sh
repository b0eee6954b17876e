#!/usr/bin/env bash
# Run by `tpu_vm.sh setup` on each host: launch/tpu_host.sh [BUCKET]
#
# Installs flowdistill in ~/venv (the image's Python is too old), and mounts the
# bucket at /mnt/BUCKET.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python3 -m pip install --quiet --user uv
python3 -m uv venv --quiet --allow-existing --python=3.12 venv
python3 -m uv pip install --quiet --python=venv/bin/python \
  --editable './flowdistill[tpu]'

bucket=${1-}
if [[ -z $bucket ]] || mountpoint -q "/mnt/$bucket"; then
  exit 0
fi
if ! command -v gcsfuse >/dev/null; then
  google=https://packages.cloud.google.com/apt
  key=/usr/share/keyrings/cloud.google.asc
  curl -fsSL "$google/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] $google gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get -q update
  sudo apt-get -qy install gcsfuse
fi
sudo mkdir -p "/mnt/$bucket"
sudo chown "$(id -u)" "/mnt/$bucket"
gcsfuse --implicit-dirs "$bucket" "/mnt/$bucket"
