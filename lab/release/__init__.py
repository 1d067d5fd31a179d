"""What is published from one commit, made the same way each time, and the check that strangers can trust it."""
