"""Airflow in a home of its own, should a test import it."""

import tests.support.airflow_home  # noqa: F401
