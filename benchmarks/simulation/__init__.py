"""A discrete-event simulation of the pipeline; see ``engine`` and ``scenario``."""
