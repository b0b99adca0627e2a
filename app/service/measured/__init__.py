"""What is measured on the items of a collection, and kept until many of them have changed."""
