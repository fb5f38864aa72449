"""The HTTP service: `nmtr serve`. docs/service.md is for its operators."""
