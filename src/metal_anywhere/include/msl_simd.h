// <metal_simdgroup>: functions of the 32 lanes of a SIMD group. <metal_quadgroup>: the same of each four of them. Those lanes take
// part that reach the same call together.
#pragma once

#define MSL_GROUP(name) simd_##name
#define MSL_WIDTH 32
#define MSL_VOTES uint64_t
#include "msl_group.h"
#undef MSL_GROUP
#undef MSL_WIDTH
#undef MSL_VOTES

#define MSL_GROUP(name) quad_##name
#define MSL_WIDTH 4
#define MSL_VOTES uint
#include "msl_group.h"
#undef MSL_GROUP
#undef MSL_WIDTH
#undef MSL_VOTES
