"""Agent messages as plain data (host): the message, checks of its parts and of its other members, plain JSON."""
