"""The pipeline: contracts, stages, store, media, provenance. Runs without Airflow."""

VERSION = "0.1.0"
