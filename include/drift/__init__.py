"""Drift: are the assets of today like those of the window that somebody accepted?"""
