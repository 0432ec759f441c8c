"""Stages: one module each, inputs to models to outputs. ``python -m include.stages`` runs one."""
