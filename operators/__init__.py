"""Airflow's side of Understudy: thin adapters around the pipeline in ``include``."""
