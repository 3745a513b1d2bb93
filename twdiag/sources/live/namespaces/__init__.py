"""Network namespaces and containers: which there are, and a look into each of them."""
