"""Tests of Week 2 Day 7: measuring."""
