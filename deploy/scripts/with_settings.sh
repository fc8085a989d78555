#!/usr/bin/env bash
# Runs a program with settings that serve to read them, and open no connection: with_settings.sh PROGRAM ARGUMENT...
set -euo pipefail
exec env DATABASE_URL=postgresql://nobody@127.0.0.1:1/none BROKER_URL=redis://127.0.0.1:1/0 \
    PRELUDE_SECRET_KEY="$(printf 'x%.0s' {1..50})" PRELUDE_KEY_PEPPER="$(printf 'x%.0s' {1..50})" \
    PRELUDE_MASTER_KEY="$(head -c 32 /dev/zero | base64)" \
    PRELUDE_BASE_MODELS_ROOT=/nonexistent PRELUDE_STORAGE_ROOT=/nonexistent \
    PRELUDE_ALLOWED_HOSTS=localhost "$@"
