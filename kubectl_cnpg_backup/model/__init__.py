"""What the plugin computes: values in, values out. Nothing here speaks to a cluster or prints."""
