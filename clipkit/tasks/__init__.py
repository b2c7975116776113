"""One thin module a subcommand: options + inputs + model -> iterator of results."""
