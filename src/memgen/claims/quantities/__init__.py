"""What the claims are about: one number per task with its interval over seeds, from the evidence."""
