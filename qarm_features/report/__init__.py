"""Output for people: the HTML report, tables for the terminal, and the neighbors of an item by code prefix."""
