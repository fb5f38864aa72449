"""The page of the HTTP service: what it shows, from the answers of the JSON API. Plain HTML, htmx."""
