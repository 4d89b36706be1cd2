"""pydantic-ai (host): `adapter` attaches an agent, `parts` carries its messages both ways."""
