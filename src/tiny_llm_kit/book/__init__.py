"""The book: its build with mdBook, and the checks of its pages."""
