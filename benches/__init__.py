"""What gamma costs: kernels, operators, whole cases, gates. `make bench` runs them."""
