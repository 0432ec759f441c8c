"""Features: what is measured of every asset, how, and the hard rules on it."""
