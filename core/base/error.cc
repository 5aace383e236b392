#include "core/base/error.h"

namespace weft {

void check_failed(const char* expression, const char* file, int line, const std::string& detail) {
  throw Error(ErrorKind::internal,
              fmt::format("{}:{}: CHECK({}) failed{}{}. This is a bug in weft: please report it.",
                          file, line, expression, detail.empty() ? "" : ": ", detail));
}

}  // namespace weft
