"""LangChain (host): `adapter` attaches create_agent, `steps` asks the hooks, `parts` carries its messages."""
