"""`python -m agentplug`: the command line."""

from agentplug.cli.app import main

main()
