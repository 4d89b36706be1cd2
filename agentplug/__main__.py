"""`python -m agentplug`: the command line."""

from agentplug.cli import main

main()
