"""The book: its build with mdBook, and what is checked of its pages."""
