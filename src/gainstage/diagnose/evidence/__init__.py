"""What a record shows for or against causes: one class for each kind of evidence."""
