"""What people see of a run: terminal, report page, figures, metrics for Prometheus."""
