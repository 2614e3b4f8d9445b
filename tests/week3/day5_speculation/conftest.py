"""The model that the tests of this day share."""

from toy_fixtures import begin_test as begin_test
from toy_fixtures import toy as toy
