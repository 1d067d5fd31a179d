"""What a run does at the destination and on the volume: copy, check, delete, and bring back."""
