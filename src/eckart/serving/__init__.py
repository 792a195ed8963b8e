"""Programs that load adapters: their rules as data, the layout they need, and a check against both."""
