#!/bin/sh
# install-packages.sh LOCK: make /opt/voicemesh, a virtual environment with what LOCK pins and nothing else.
set -eu

here=$(dirname "$0")
home=/opt/voicemesh
# A registry of one's own: --secret id=pip.conf,src=…
[ ! -f /run/secrets/pip.conf ] || export PIP_CONFIG_FILE=/run/secrets/pip.conf

python3.11 -m venv --without-pip "$home"
# Packages without a wheel are built by what build.lock pins, from sources whose digests LOCK pins.
PYTHONPATH=/opt/build python3.11 -m pip --quiet --no-cache-dir --python "$home/bin/python" install \
    --ignore-installed --no-deps --require-hashes --no-compile --no-build-isolation \
    --only-binary :all: --no-binary "$(cat "$here/source-only")" --requirement "$1"
"$here/compile.sh" "$home/lib/python3.11/site-packages"
