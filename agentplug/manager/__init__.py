"""Many plugins (host): the manager, and its wings `hooks`, `audit` and `pins`."""
