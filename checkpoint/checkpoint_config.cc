#include "checkpoint/checkpoint_config.h"

namespace weft::checkpoint {

void CheckpointConfig::visit(ConfigVisitor& v) {
  v.field("every_steps", every_steps, "save after so many steps; 0: not by steps").at_least(0);
  v.field("every_minutes", every_minutes,
          "save when so much time has passed (`30`, `30min`, `2h`); 0: not by time")
      .bare_unit({60});
  v.field("keep", keep, "checkpoints kept, the newest; 0: all").at_least(0);
  v.field("keep_best", keep_best,
          "also keep the checkpoint with the lowest held-out loss, whatever its age");
  v.field(
      "resume", resume, kResumeNames,
      "`auto` goes on from the run folder's last whole checkpoint; `never` refuses a folder that "
      "has one");
}

}  // namespace weft::checkpoint
