"""A new backend, measured beside the one that is live, tried on a share, promoted or taken back."""
