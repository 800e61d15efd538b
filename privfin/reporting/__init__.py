"""Reports on finished runs, for people who have to decide: schema, pages, seals."""
