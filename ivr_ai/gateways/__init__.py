"""Hosts other than FreeSWITCH: each owns a clock and stands at the host end of its calls' streams."""
