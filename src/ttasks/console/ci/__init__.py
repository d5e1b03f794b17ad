"""What CI systems make of plain output: groups, annotations, summaries; a file for each system."""
