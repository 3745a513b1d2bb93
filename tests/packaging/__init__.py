"""What a newcomer and a packager meet: pages, completions, the README, the built packages."""
