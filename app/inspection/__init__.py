"""Roll cells, roughness, report."""
