"""What people see of a run: summary, report, dashboard, notebook. Never imports torch."""
