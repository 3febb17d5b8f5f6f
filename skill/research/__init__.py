"""What a researcher keeps in files: projects, ideas, runs, and the evidence that comes of them."""
