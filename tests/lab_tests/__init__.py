"""The test lab itself: a wrong lab would prove nothing."""
