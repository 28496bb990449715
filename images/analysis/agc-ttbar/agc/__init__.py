"""The AGC CMS ttbar analysis: selection, systematic variations, histograms.

The task is the Analysis Grand Challenge's, version 2 (iris-hep, CMS 2015 Open
Data); where its documentation and its code differ, the code is followed.
"""
