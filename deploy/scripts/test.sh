#!/usr/bin/env bash
# Judges the tree, the quick judgements first, and ends at the first that fails: test.sh PROGRAMS all|STEP...
set -euo pipefail
programs=$1
shift

heading() {
    printf '\n== %s\n' "$*"
}

# Settings for what reads them but opens no connection.
with_settings() {
    env DATABASE_URL=postgresql://nobody@127.0.0.1:1/none BROKER_URL=redis://127.0.0.1:1/0 \
        PRELUDE_SECRET_KEY="$(printf 'x%.0s' {1..50})" PRELUDE_KEY_PEPPER="$(printf 'x%.0s' {1..50})" \
        PRELUDE_MASTER_KEY="$(head -c 32 /dev/zero | base64)" \
        PRELUDE_BASE_MODELS_ROOT=/nonexistent PRELUDE_STORAGE_ROOT=/nonexistent \
        PRELUDE_ALLOWED_HOSTS=localhost "$@"
}

lint() {
    heading "Form: ruff"
    "$programs/ruff" check .
    "$programs/ruff" format --check .
}

types() {
    heading "Types: mypy --strict"
    with_settings "$programs/mypy"
}

contracts() {
    heading "Rooms: import contracts"
    "$programs/lint-imports"
}

migrations() {
    heading "Migrations: none missing"
    with_settings "$programs/python" -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
}

tests() {
    local without=()
    heading "Tests: pytest"
    if ! deploy/scripts/browser.sh; then
        [[ ${CI:-} == true ]] && return 1
        without=(-m "not browser")
        skipped="the browser test (no chromium)"
    fi
    "$programs/python" -m pytest "${without[@]}"
}

skipped=""
if [[ $1 == all ]]; then
    set -- lint types contracts migrations tests
fi
for step in "$@"; do
    "$step"
done
heading "All good${skipped:+, but skipped: $skipped}"
