"""The forms of CI systems: groups, annotations and summaries; a file for each system."""
