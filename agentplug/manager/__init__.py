"""Many plugins (host): the manager, with its packages `hooks`, `audit` and `pins`."""
