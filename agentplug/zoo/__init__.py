"""Plugins that misbehave, to learn from and to test on: one file a family, one class an attack (worker side).

Each class says what it tries and what should stop it. Importing these modules does nothing; only calling `process`
does harm, and only where no barrier stands: in a `SandboxedPlugin` the verdict named in the docstring comes of it.
Load one by its spec, as in `%load_plugin agentplug.zoo.memory:Hoarder` or `agentplug run agentplug.zoo.cpu:Spinner`.
`agentplug.doctor.battery` runs them all, against a stage set with what they aim at, and looks for damage afterwards.
"""
