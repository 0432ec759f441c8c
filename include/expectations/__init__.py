"""What every kind of asset is expected to be, as data: one YAML file a kind, and their form."""
