"""The doors: the only rooms that read files, and the only users of yaml and pydantic."""
