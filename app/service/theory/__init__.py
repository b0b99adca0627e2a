"""What theory says about the data of a service."""
