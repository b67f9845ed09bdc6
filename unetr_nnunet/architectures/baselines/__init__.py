"""Networks of other packages, registered for comparison; none of their code is here."""
