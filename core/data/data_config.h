// The `data:` section.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/config_field.h"

namespace weft::data {

enum class TooLong { error, truncate, split, drop };
inline constexpr EnumName<TooLong> kTooLongNames[] = {{TooLong::error, "error"},
                                                      {TooLong::truncate, "truncate"},
                                                      {TooLong::split, "split"},
                                                      {TooLong::drop, "drop"}};

enum class Format { automatic, messages, prompt_completion, alpaca, text, classification };
inline constexpr EnumName<Format> kFormatNames[] = {
    {Format::automatic, "auto"},
    {Format::messages, "messages"},
    {Format::prompt_completion, "prompt_completion"},
    {Format::alpaca, "alpaca"},
    {Format::text, "text"},
    {Format::classification, "classification"}};

// What of a conversation the loss counts.
enum class TrainOn { assistant, all };
inline constexpr EnumName<TrainOn> kTrainOnNames[] = {{TrainOn::assistant, "assistant"},
                                                      {TrainOn::all, "all"}};

struct DataFile {
  std::string path;
  double weight = 1;

  void visit(ConfigVisitor& v);
};

// How a record becomes text. Training, `weft eval` and `weft data` share it.
struct RecordConfig {
  Format format = Format::automatic;
  std::string messages_field = "messages";
  std::string prompt_field;      // empty: the format's usual names
  std::string completion_field;  // empty: the format's usual names
  std::string text_field = "text";
  std::string label_field = "label";
  std::string prompt_template;  // of text + label records
  std::string system;           // system message where a record has none
  std::string chat_template;    // empty: the model's
  TrainOn train_on = TrainOn::assistant;

  void visit(ConfigVisitor& v);
};

struct DataConfig {
  std::vector<DataFile> train;
  std::vector<DataFile> eval;
  double eval_share = 0;
  int64_t seq_len = 1024;
  bool packing = true;
  TooLong too_long = TooLong::error;
  bool shuffle = true;
  int64_t seed = 0;
  RecordConfig record;  // its keys stand in `data:` itself

  void visit(ConfigVisitor& v);
  void check() const;
};

}  // namespace weft::data
