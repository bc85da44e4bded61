"""The page that a sweep ends with: what it shows, in which words and figures, and how it is rendered."""
