#!/usr/bin/env bash
# Judges the tree, the quick judgements first, and ends at the first that fails: test.sh PROGRAMS all|STEP...
set -euo pipefail
programs=$1
shift

heading() {
    printf '\n== %s\n' "$*"
}

lint() {
    heading "Form: ruff"
    "$programs/ruff" check .
    "$programs/ruff" format --check .
}

types() {
    heading "Types: mypy --strict"
    deploy/scripts/with_settings.sh "$programs/mypy"
}

contracts() {
    heading "Rooms: import contracts"
    "$programs/lint-imports"
}

migrations() {
    heading "Migrations: none missing"
    deploy/scripts/with_settings.sh "$programs/python" -W ignore::RuntimeWarning \
        manage.py makemigrations --check --dry-run
}

# Tests whose program is not to be had are left out and told at the end; on CI that is a failure.
without() {
    [[ ${CI:-} == true ]] && exit 1
    left_out+=${left_out:+ and }"not $1"
    skipped+=${skipped:+, }$2
}

tests() {
    local left_out=""
    heading "Tests: pytest"
    deploy/scripts/browser.sh || without browser "the browser test (no chromium)"
    deploy/scripts/pgbouncer.sh || without pgbouncer "the pooler's test (no pgbouncer)"
    # Each process has servers of its own; where the environment names servers, there is one process to use them.
    local processes=2
    [[ -n ${DATABASE_URL:-}${BROKER_URL:-} ]] && processes=0
    "$programs/python" -m pytest --numprocesses "$processes" --dist loadgroup ${left_out:+-m "$left_out"}
}

skipped=""
if [[ $1 == all ]]; then
    set -- lint types contracts migrations tests
fi
for step in "$@"; do
    "$step"
done
heading "All good${skipped:+, but skipped: $skipped}"
