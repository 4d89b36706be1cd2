"""OpenAI Agents SDK (host): `adapter` attaches an agent, `asking` asks the hooks, `parts` carries its messages."""
