// The names that an enum's values have in files: constexpr EnumName<Schedule> kScheduleNames[] =
// {{Schedule::cosine, "cosine"}, ...}.
#pragma once

#include <cstddef>
#include <string>

namespace weft {

template <class E>
struct EnumName {
  E value;
  const char* name;
};

template <class E, size_t N>
std::string enum_name(E value, const EnumName<E> (&names)[N]) {
  for (const auto& entry : names)
    if (entry.value == value) return entry.name;
  return "?";
}

}  // namespace weft
