"""The benchmark report: one HTML page that needs no host, script, font or other file."""

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
"""What a browser may load for the page, as a Content-Security-Policy."""
