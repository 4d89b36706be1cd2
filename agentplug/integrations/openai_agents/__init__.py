"""OpenAI Agents SDK (host): `adapter` attaches an agent, `wrappers` calls the hooks, `parts` converts messages."""
