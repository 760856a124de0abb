"""Many clips: tables, splits, the audit, the store of decoded sound, features made ahead, batches."""
