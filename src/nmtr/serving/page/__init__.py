"""The page of the HTTP service: what it shows, made of the answers of the JSON API."""
