"""Networks of other projects: their names and layouts, both ways."""
