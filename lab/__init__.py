"""A developer's workshop: the demo, the benchmarks and the pictures. Nothing here is shipped."""
