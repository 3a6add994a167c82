"""The `fedlaw` command, a module for each group of commands."""
