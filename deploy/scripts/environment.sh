#!/usr/bin/env bash
# Makes the virtual environment, or brings it up to date: environment.sh PYTHON DIRECTORY
set -euo pipefail
python=$1
venv=$2
torch_cpu_index=${TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}

refuse() {
    echo "prelude: $*" >&2
    exit 1
}

check_python() {
    command -v "$python" >/dev/null || refuse "there is no $python; name another: make PYTHON=python3.12"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        refuse "$("$python" --version 2>&1) is too old, 3.11 is needed; name another: make PYTHON=python3.12"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        refuse "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv"
}

# uv does not read pip's configuration: a registry that is set there holds for both.
follow_pip() {
    local index
    index=${PIP_INDEX_URL:-$("$venv/bin/pip" config get global.index-url 2>/dev/null || true)}
    if [[ -n $index && -z ${UV_DEFAULT_INDEX:-} ]]; then
        export UV_DEFAULT_INDEX=$index
    fi
}

# On Linux, plain torch brings gigabytes of CUDA. A machine without a GPU takes PyTorch's own CPU build, from pip's
# configured places or PyTorch's index; where neither has it, the last step installs plain torch all the same.
install_torch_for_cpu() {
    local version
    version=$(sed -n 's/^torch==//p' requirements.lock)
    "$venv/bin/python" -c "from importlib.metadata import version as v; assert v('torch').startswith('$version')" \
        2>/dev/null && return
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --retries 1 --timeout 15 \
        --extra-index-url "$torch_cpu_index" "torch==$version+cpu" ||
        echo "prelude: no CPU build of torch $version to be had; plain torch follows" >&2
}

check_python
echo "Setting up $venv ..."
[[ -x $venv/bin/pip ]] || "$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check uv
follow_pip
if [[ $(uname -s) == Linux ]] && ! command -v nvidia-smi >/dev/null; then
    install_torch_for_cpu
fi
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" \
    -r pyproject.toml --all-extras -c requirements.lock
