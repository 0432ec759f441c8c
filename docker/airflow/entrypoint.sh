#!/bin/sh
# Runs a command that is there, as the official chart gives it (bash -c, python -m, airflow); anything
# else is an Airflow command: `podman run understudy-airflow scheduler`.
set -eu
if [ $# -gt 0 ] && command -v "$1" >/dev/null 2>&1; then
    exec "$@"
fi
exec airflow "$@"
