"""LangChain (host): `adapter` attaches create_agent, `steps` calls the hooks, `parts` converts its messages."""
