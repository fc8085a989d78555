#!/usr/bin/env bash
# Makes sure of a Chromium for the browser test. Ends with 0 where there is one, with 3 where there is none.
set -euo pipefail

command -v chromium >/dev/null && exit 0
if [[ $(id -u) == 0 ]] && grep -qsE '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release; then
    echo "Installing chromium ..."
    export DEBIAN_FRONTEND=noninteractive
    lock=(-o "DPkg::Lock::Timeout=120")
    apt-get "${lock[@]}" update -qq >/dev/null &&
        apt-get "${lock[@]}" install -y -qq --no-install-recommends chromium >/dev/null || true
fi
command -v chromium >/dev/null && exit 0
echo "There is no chromium. As root on Debian: apt-get install chromium" >&2
exit 3
