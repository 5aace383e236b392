#include "core/data/data_config.h"

#include "core/base/error.h"

namespace weft::data {
namespace {

constexpr double kMaxWeight = 1000;  // times an epoch sees a record

}  // namespace

void DataFile::visit(ConfigVisitor& v) {
  v.field("path", path, "JSONL, JSON, plain text (.txt), or HDF5 made by `weft data`");
  v.field("weight", weight, "how often a record is drawn, relative to the other files").above(0);
}

void RecordConfig::visit(ConfigVisitor& v) {
  v.field("format", format, kFormatNames,
          "what a record holds; `auto` decides by the fields of each record");
  v.field("messages_field", messages_field, "field with the turns of a conversation");
  v.field("prompt_field", prompt_field,
          "field with the prompt (usual: `prompt`, `question`, `instruction`)");
  v.field("completion_field", completion_field,
          "field with the answer (usual: `completion`, `answer`, `response`, `output`)");
  v.field("text_field", text_field, "field with the text of `text` and `classification` records");
  v.field("label_field", label_field, "field with the label of `classification` records");
  v.field(
      "prompt_template", prompt_template,
      "prompt of `classification` records; `{text}` stands for the text (any field may be named)");
  v.field("system", system, "system message for conversations that have none");
  v.field("chat_template", chat_template,
          "Jinja template, or the path of a file with one, instead of the model's own");
  v.field("train_on", train_on, kTrainOnNames,
          "what the loss counts: the assistant's turns, or every token");
}

void DataConfig::visit(ConfigVisitor& v) {
  v.list("train", train, "training data: a path, or a list of paths or {path, weight}");
  v.list("eval", eval, "held-out data: a path or a list");
  v.field("eval_share", eval_share,
          "share of the training records held out instead, chosen by a hash of the record")
      .between(0, 0.5);
  v.field("seq_len", seq_len, "tokens in a row of a batch; the longest document").at_least(2);
  v.field("packing", packing,
          "put several documents into a row (they cannot see each other); else one a row, padded");
  v.field("too_long", too_long, kTooLongNames, "what happens to documents longer than seq_len");
  v.field("shuffle", shuffle, "draw records in a random order, another in each epoch");
  v.field("seed", seed, "of the order of records");
  record.visit(v);
}

void DataConfig::check() const {
  for (const auto* files : {&train, &eval})
    for (const DataFile& file : *files)
      if (file.path.empty())
        fail(ErrorKind::usage, "data.{}: a file has no path", files == &train ? "train" : "eval");
  for (const DataFile& file : train)
    if (file.weight > kMaxWeight)
      fail(ErrorKind::usage, "data.train: {} has the weight {}, at most {} is possible", file.path,
           file.weight, kMaxWeight);
  if (!eval.empty() && eval_share > 0)
    fail(ErrorKind::usage,
         "data.eval and data.eval_share both say what is held out: keep one of them");
}

}  // namespace weft::data
