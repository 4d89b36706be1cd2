"""Pydantic AI (host): `adapter` attaches an agent, `parts` converts its messages."""
