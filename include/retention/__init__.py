"""What is kept how long: the policy, garbage collection by reachability, S3 lifecycle rules."""
