"""Network namespaces: which there are, and how to look into them one after the other."""
