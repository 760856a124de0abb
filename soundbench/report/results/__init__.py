"""The results of a run as Python objects: `Run`, its tables, its pictures."""
