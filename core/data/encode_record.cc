#include "core/data/encode_record.h"

#include "core/base/error.h"

namespace weft::data {

RecordEncoder::RecordEncoder(text::Tokenizer tokenizer,
                             const text::TokenizerConfig& tokenizer_config,
                             const RecordConfig& config)
    : tokenizer_(std::move(tokenizer)),
      special_(text::special_ids(tokenizer_, tokenizer_config)),
      config_(config) {
  const std::string& source =
      config.chat_template.empty() ? tokenizer_config.chat_template : config.chat_template;
  if (!source.empty())
    chat_template_ = std::make_unique<text::ChatTemplate>(
        source, text::special_token_texts(tokenizer_config), "the chat template");
}

void RecordEncoder::append(Example& example, std::string_view text, bool trained) const {
  const std::vector<int32_t> ids = tokenizer_.encode(text);
  example.ids.insert(example.ids.end(), ids.begin(), ids.end());
  example.trained.insert(example.trained.end(), ids.size(), trained);
}

Example RecordEncoder::encode(const Record& record, Purpose purpose) const {
  Example example;
  try {
    switch (record.kind) {
      case Record::Kind::chat:
        example = encode_chat(record.messages);
        break;
      case Record::Kind::answer:
        example = encode_answer(record);
        break;
      case Record::Kind::text:
        example = encode_text(record, purpose);
        break;
    }
  } catch (const Error& e) {
    throw Error(e.kind(), record.where + ": " + e.what());
  }
  if (config_.train_on == TrainOn::all) example.trained.assign(example.trained.size(), 1);
  return example;
}

Example RecordEncoder::encode_chat(const Json& messages) const {
  if (!chat_template_)
    fail(
        ErrorKind::bad_data,
        "the record is a conversation, but the model has no chat template: set data.chat_template");
  Json::Array all = messages.as_array();
  if (!config_.system.empty() && all[0].at("role") != Json("system")) {
    Json system;
    system.set("role", "system");
    system.set("content", config_.system);
    all.insert(all.begin(), system);
  }
  const text::RenderedChat chat = chat_template_->render_with_spans(all);
  Example example;
  size_t at = 0;
  for (const auto& span : chat.assistant) {
    append(example, std::string_view(chat.text).substr(at, span.begin - at), false);
    append(example, std::string_view(chat.text).substr(span.begin, span.end - span.begin), true);
    at = span.end;
  }
  append(example, std::string_view(chat.text).substr(at), false);
  return example;
}

Example RecordEncoder::encode_answer(const Record& record) const {
  Example example;
  if (chat_template_) {
    Json user, assistant;
    user.set("role", "user");
    user.set("content", record.prompt);
    assistant.set("role", "assistant");
    assistant.set("content", record.completion);
    example = encode_chat(Json::Array{user, assistant});
  } else {
    if (special_.add_bos && special_.bos >= 0) {
      example.ids.push_back(special_.bos);
      example.trained.push_back(0);
    }
    append(example, record.prompt, false);
    append(example, record.completion, true);
    if (special_.eos >= 0) {
      example.ids.push_back(special_.eos);
      example.trained.push_back(1);
    }
  }
  if (!record.labelled) return example;
  const int64_t n = static_cast<int64_t>(example.ids.size());
  for (int64_t i = 0; i < n; ++i) {
    if (!example.trained[static_cast<size_t>(i)]) continue;
    if (example.answer_begin < 0) example.answer_begin = i;
    example.answer_end = i;  // the last trained token ends the turn
  }
  return example;
}

Example RecordEncoder::encode_text(const Record& record, Purpose purpose) const {
  Example example;
  const bool training = purpose == Purpose::train;
  if (special_.bos >= 0 && (special_.add_bos || !training)) {
    example.ids.push_back(special_.bos);
    example.trained.push_back(0);
  }
  append(example, record.text, true);
  if (training && special_.add_eos && special_.eos >= 0) {
    example.ids.push_back(special_.eos);
    example.trained.push_back(1);
  }
  return example;
}

}  // namespace weft::data
