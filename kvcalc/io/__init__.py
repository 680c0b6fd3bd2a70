"""Input: the only packages that read files, and the only users of yaml and pydantic."""
