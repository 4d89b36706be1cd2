"""Google ADK (host): `adapter` attaches a runner, `parts` converts its messages."""
