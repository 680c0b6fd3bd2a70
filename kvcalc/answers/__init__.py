"""Answers about one cache: its size, at many points, compared with others, at its peak, and as an engine plans it."""
