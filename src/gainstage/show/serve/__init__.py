"""The live dashboard: runs in a browser, while they go on."""
