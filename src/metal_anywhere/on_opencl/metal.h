// The Metal standard library for clang's C++ for OpenCL, which knows address spaces: declarations only, as nothing runs.
//
// It is as lenient as it can be where address spaces are not concerned: the CPU runner's own library is strict there.
#pragma once
#include "words.h"

#include "traits.h"
#include "types.h"

#include "atomics.h"
#include "groups.h"
#include "math.h"
#include "matrices.h"
