#include "recipes/data.h"

#include "core/base/error.h"
namespace weft::recipes {
void run_data(const DataOptions&) { fail(ErrorKind::unavailable, "weft data is not there yet"); }
}  // namespace weft::recipes
