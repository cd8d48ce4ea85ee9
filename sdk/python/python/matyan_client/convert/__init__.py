"""Conversion of the data of other trackers to archives."""
