"""One module for each command, or for two that share their work: its options, what it does, what it prints."""
