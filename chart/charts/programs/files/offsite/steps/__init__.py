# Without comments: they are in the project's file of this name.
pass
