"""Confined worker processes: `launcher`, `supervisor`, `watchdog`, `kernel` run in the host; `zygote` and `worker`,
with its `barriers`, in processes of their own; `channel` on both ends. See ARCHITECTURE.md for the flow."""
