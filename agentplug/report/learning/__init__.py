"""The least policy for some runs (host): `lesson` makes a `proposal` from the `used_rights`."""
