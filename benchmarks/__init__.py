"""Each figure of the README has a command here that prints it; the last line of each is one JSON object."""
