"""What travels between rooms: one frozen dataclass for each kind of fact."""
