"""Google ADK (host): `adapter` attaches a runner, `parts` carries its messages both ways."""
