"""What the client suites share: the records they write, how a suite reports, and how a broker is started."""
