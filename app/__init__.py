"""The desktop application and the command line; the only place where Qt is imported."""
