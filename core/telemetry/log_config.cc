#include "core/telemetry/log_config.h"

namespace weft::telemetry {

void LogConfig::visit(ConfigVisitor& v) {
  v.field("level", level, kLevelNames, "lines below this level are not written");
  v.field("every", every, "plain progress: a line every so many steps").at_least(1);
  v.field("progress", progress, kProgressNames,
          "one live line on a terminal, plain lines, or none; `auto` looks at where it goes");
  v.field("metrics", metrics, "write metrics.jsonl into the run folder, one line a step");
  v.field("trace", trace,
          "write where the time of some steps goes as a Chrome trace: a .json file for "
          "ui.perfetto.dev; empty: none");
  v.field("trace_after", trace_after, "steps before the first traced one").at_least(0);
  v.field("trace_steps", trace_steps, "steps in the trace").at_least(1);
}

}  // namespace weft::telemetry
