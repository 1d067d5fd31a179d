"""What people and programs see: tables as values, and the screen that prints them."""
