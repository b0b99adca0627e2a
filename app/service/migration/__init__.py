"""Collections and encoders copied from one back end to another, and compared there."""
