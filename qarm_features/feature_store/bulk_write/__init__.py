"""The write path of the bulk engine: a view's rows are encoded column by column and written in Feast's own layout."""
