"""Airflow in a home of its own, should a test import it."""

import os
import tempfile

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="understudy-airflow-"))
