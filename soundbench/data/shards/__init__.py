"""The shards that decoded sound is kept in: appended to by any number of processes, mapped by all that read."""
