"""``./understudy chaos``: break a real campaign in every way at hand, then check what is promised.

The runner starts an Airflow, and with ``--store s3`` and ``--database postgres`` a Ceph RADOS
Gateway and a PostgreSQL, of its own. It kills, freezes, cuts, fills and slows them down while
campaigns render, and does what a supervisor does in production: it starts again what was killed.
"""
