"""Many runs: trained, verified, packed for another machine."""
