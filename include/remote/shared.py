"""Where all tenants' tasks meet in the store: states of APIs and of our own capacity."""

SHARED = "_shared"
"""First segment of such keys. No tenant: a tenant's name does not begin with an underscore."""
