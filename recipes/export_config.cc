#include "recipes/export_config.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/nearest.h"

namespace weft::recipes {

const std::vector<std::string>& export_formats() {
  static const std::vector<std::string> kFormats = {"hf",       "peft",      "gguf:f32",
                                                    "gguf:f16", "gguf:bf16", "gguf:q8_0"};
  return kFormats;
}

void check_export_format(const std::string& format, const std::string& where) {
  const auto& known = export_formats();
  if (std::find(known.begin(), known.end(), format) != known.end()) return;
  fail(ErrorKind::usage, "{}: unknown format '{}'; the nearest of {} is '{}'", where, format,
       fmt::join(known, ", "), nearest(format, known));
}

void ExportConfig::visit(ConfigVisitor& v) {
  v.field("formats", formats,
          "written when the run ends: `hf`, `peft`, `gguf:f32`, `gguf:f16`, `gguf:bf16`, "
          "`gguf:q8_0`");
  v.field("output_dir", output_dir, "folder for them; empty: `export` in the run folder");
}

void ExportConfig::check() const {
  for (const std::string& format : formats) check_export_format(format, "export.formats");
}

}  // namespace weft::recipes
