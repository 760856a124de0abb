"""What a report says of sound of none of the classes."""
