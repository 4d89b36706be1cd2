"""Agent messages as plain data (host): `message` is the message, `parts` its parts, `members` their fields."""
