"""One module a command; imported only when its command runs or its help is shown."""
