// The `export:` section: what a finished run writes by itself.
#pragma once

#include <string>
#include <vector>

#include "core/base/config_field.h"

namespace weft::recipes {

// The formats that `weft export --format` and export.formats know.
const std::vector<std::string>& export_formats();  // "hf", "peft", "gguf:f16", ...

// Throws usage with the nearest known format.
void check_export_format(const std::string& format, const std::string& where);

struct ExportConfig {
  std::vector<std::string> formats;
  std::string output_dir;  // empty: <run>/export

  void visit(ConfigVisitor& v);
  void check() const;
};

}  // namespace weft::recipes
