"""What is answered about one cache: its size, at many points, beside others, at its peak, and as an engine plans it."""
