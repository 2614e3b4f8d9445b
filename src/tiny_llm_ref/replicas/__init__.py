"""Several engines behind one address: which one serves a request, and what happens when one of them dies."""
