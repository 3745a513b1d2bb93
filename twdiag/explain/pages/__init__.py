"""The pages, as plain structures: states, scenarios, topics, myths, and the manuals of rules."""
