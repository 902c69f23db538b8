"""A saved ranking model scores the candidates of a request."""
