"""Makes the HTML report of evaluation results: README.md has the map of these files."""
