"""Run the lessons, report on them, and make the website of them."""
