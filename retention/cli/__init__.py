"""The command line: a module a group of commands, each with its options, its work and its output."""
