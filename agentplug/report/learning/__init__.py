"""The least policy for what runs used (host): `lesson` makes a `proposal` from the rights that were used."""
