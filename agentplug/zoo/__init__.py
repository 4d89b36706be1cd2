"""Plugins that misbehave, for lessons and tests: one module for a family, one class for an attack (worker side).

Each docstring describes the attack, the barrier that stops it, and the verdict in a `SandboxedPlugin`. Importing
these modules does nothing; a call of `process` attacks, and does harm only where no barrier is. Load a plugin by its
spec: `%load_plugin agentplug.zoo.memory:Hoarder` or `agentplug run agentplug.zoo.cpu:Spinner`.
`agentplug.doctor.battery` runs all of them beside targets of its own, and looks for damage afterwards.
"""
