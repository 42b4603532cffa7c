"""Statistics over results files of depthroute-eval; README.md has the output, eval/SPEC.md the methods."""
