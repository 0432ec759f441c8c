"""Safety checks on pixels and text, and the verdict that they add up to."""
