// <metal_logging>: os_log, which says nothing here.
#pragma once

namespace metal {

struct os_log {
  constexpr os_log(const char*, const char*) {}

  template <class... Arguments>
  void log_debug(const char*, Arguments...) const {}
};

}  // namespace metal
