"""Pages that stand alone: blocks of text, tables and pictures, and the HTML made of them."""
