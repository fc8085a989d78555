#!/usr/bin/env bash
# Makes sure of a PgBouncer for the pooler's test. Ends with 0 where there is one, with 3 where there is none.
set -euo pipefail
PATH=$PATH:/usr/sbin:/usr/local/sbin

command -v pgbouncer >/dev/null && exit 0
if [[ $(id -u) == 0 ]] && grep -qsE '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release; then
    echo "Installing pgbouncer ..."
    export DEBIAN_FRONTEND=noninteractive
    lock=(-o "DPkg::Lock::Timeout=120")
    apt-get "${lock[@]}" update -qq >/dev/null &&
        apt-get "${lock[@]}" install -y -qq --no-install-recommends pgbouncer >/dev/null || true
    # The package starts a service of its own; the test wants the program alone.
    if [[ -d /run/systemd/system ]]; then
        systemctl disable --now --quiet pgbouncer || true
    fi
fi
command -v pgbouncer >/dev/null && exit 0
echo "There is no pgbouncer. As root on Debian: apt-get install pgbouncer" >&2
exit 3
