"""What the columns of unknown files are: a sample of each file, and the roles that its columns can have."""
