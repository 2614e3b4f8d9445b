"""Tests of Week 2 Day 7: measuring."""

from toy_fixtures import begin_test as begin_test
from toy_fixtures import toy as toy
