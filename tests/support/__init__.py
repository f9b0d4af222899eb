"""What several kinds of tests and the demo share: a SIP caller, a FreeSWITCH, a scripted telephone."""
