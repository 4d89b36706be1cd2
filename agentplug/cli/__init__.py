"""The command line (host): `app` is its entry point, one module a command."""
