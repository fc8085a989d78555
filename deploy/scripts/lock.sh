#!/usr/bin/env bash
# Prints the pinned requirements, for every platform and Python from 3.11 on: lock.sh UV
#
# Constraints, not a list to install: the CUDA packages that plain torch asks for on Linux are left out, so that one
# file serves machines with and without a GPU. It names no index and no path.
set -euo pipefail
echo "# Made by \`make lock\`; used as constraints (-c)."
"$1" pip compile pyproject.toml --quiet --all-extras --universal --python-version 3.11 \
    --no-annotate --no-header --no-emit-index-url | grep -vE '^(nvidia|cuda|triton)-?'
