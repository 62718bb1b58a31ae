"""What people see of a run. Reads records and the store only."""
