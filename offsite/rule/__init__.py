"""What follows from names, sizes and moments alone. Values in, values out; no input or output."""
