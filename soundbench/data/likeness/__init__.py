"""Which clips are the same recording, though their samples differ: encoded again, louder, resampled, or cut."""
