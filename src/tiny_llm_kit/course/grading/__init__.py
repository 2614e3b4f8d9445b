"""Grades an answer: points for each task, from pristine tests in a process with limits, and a report of what was not fair.

A grade runs in three processes. The program (`grade`) never imports the answer. For each day it starts a `supervisor`, which
holds the limits and the secret, and that starts the process in which tests and answer run (`graded`).
"""
