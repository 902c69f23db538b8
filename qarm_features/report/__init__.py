"""What a person looks at: the HTML report, tables on the terminal, neighbors by prefix."""
