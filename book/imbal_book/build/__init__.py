"""From notebooks to pages: the command line, papermill, Jupyter Book."""
