// Metal's qualifiers are OpenCL's under other names.
#pragma once
#pragma OPENCL EXTENSION cl_khr_fp16 : enable

#define device __global
#define threadgroup __local
#define thread __private
#define constant __constant
#define kernel
#define METAL_FUNC inline

// Words of OpenCL that a Metal kernel may use as names.
#define atomic_float atomic_float_
#define atomic_int atomic_int_
#define atomic_uint atomic_uint_
#define event_t event_t_
#define generic generic_
#define global global_
#define image1d_t image1d_t_
#define image2d_t image2d_t_
#define image3d_t image3d_t_
#define local local_
#define pipe pipe_
#define queue_t queue_t_
#define read_only read_only_
#define read_write read_write_
#define sampler_t sampler_t_
#define vec_step vec_step_
#define write_only write_only_
