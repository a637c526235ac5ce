"""What `import miasbench` offers: runs, methods and scores from Python."""
