"""Several engines behind one address: who serves which request, and what happens when one of them dies."""
