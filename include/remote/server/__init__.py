"""A reference server of the contract in ``include.contracts.remote``: an example that works."""
