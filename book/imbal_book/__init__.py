"""The machinery that makes the book: runs, studies, verdicts, pictures, pages."""
