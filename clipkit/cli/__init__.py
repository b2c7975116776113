"""The command line: arguments in, exit code out. Only the standard library and typer at module level."""
