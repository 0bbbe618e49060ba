"""The Litestar routes: HTTP in, one call of the serving core, HTTP out."""
