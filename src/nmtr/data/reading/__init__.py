"""How a log's files become rows: formats, columns, ids, times, and what may be wrong with them."""
