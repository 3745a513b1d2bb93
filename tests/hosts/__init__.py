"""Real container runtimes, where they are installed: what twdiag tells against their own list."""
