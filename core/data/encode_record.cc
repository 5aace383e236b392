#include "core/data/encode_record.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "core/base/error.h"

namespace weft::data {

namespace {

constexpr size_t kMaxTemplateBytes = size_t{1} << 20;

// What the config holds is a template or the path of one.
std::string template_source(const std::string& value) {
  if (value.empty() || value.find('{') != std::string::npos) return value;
  std::ifstream in(value, std::ios::binary);
  if (!in)
    fail(ErrorKind::no_input,
         "data.chat_template: '{}' is no template (it has no '{{') and cannot be opened: {}", value,
         std::strerror(errno));
  std::string source(kMaxTemplateBytes + 1, '\0');
  in.read(source.data(), static_cast<std::streamsize>(source.size()));
  source.resize(static_cast<size_t>(in.gcount()));
  if (source.size() > kMaxTemplateBytes)
    fail(ErrorKind::bad_data, "{}: a chat template of more than {} bytes", value,
         kMaxTemplateBytes);
  return source;
}

bool puts_space_before(const text::Tokenizer& tokenizer) {
  const std::vector<int32_t> ids = tokenizer.encode("a");
  const std::string first = ids.empty() ? "" : tokenizer.token_of(ids[0]).value_or("");
  return first.starts_with("▁") || first.starts_with("Ġ");
}

}  // namespace

void RecordEncoder::Spans::push(int32_t id, bool is_trained) {
  example.ids.push_back(id);
  example.trained.push_back(is_trained);
}

RecordEncoder::RecordEncoder(text::Tokenizer tokenizer,
                             const text::TokenizerConfig& tokenizer_config,
                             const RecordConfig& config)
    : tokenizer_(std::move(tokenizer)),
      special_(text::special_ids(tokenizer_, tokenizer_config)),
      adds_space_(puts_space_before(tokenizer_)),
      config_(config) {
  const std::string source = config.chat_template.empty() ? tokenizer_config.chat_template
                                                          : template_source(config.chat_template);
  if (!source.empty())
    chat_template_ = std::make_unique<text::ChatTemplate>(
        source, text::special_token_texts(tokenizer_config), "the chat template");
}

// Tokenizers that put a space before a text would put one before each span: theirs is encoded with
// what stands before it, as far as the tokens of that stay the same.
void RecordEncoder::append(Spans& spans, std::string_view text, bool trained) const {
  if (text.empty()) return;
  std::vector<int32_t>& ids = spans.example.ids;
  const size_t begin = spans.special, known = ids.size() - begin;
  spans.text += text;
  std::vector<int32_t> more;
  if (adds_space_ && known > 0) {
    more = tokenizer_.encode(spans.text);
    const bool same = more.size() > known && std::equal(ids.begin() + static_cast<ptrdiff_t>(begin),
                                                        ids.end(), more.begin());
    more.erase(more.begin(), same ? more.begin() + static_cast<ptrdiff_t>(known) : more.end());
  }
  if (more.empty()) more = tokenizer_.encode(text);
  ids.insert(ids.end(), more.begin(), more.end());
  spans.example.trained.resize(ids.size(), trained);
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
  example.record_hash = record.content_hash;
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
  Spans spans;
  size_t at = 0;
  for (const auto& span : chat.assistant) {
    append(spans, std::string_view(chat.text).substr(at, span.begin - at), false);
    append(spans, std::string_view(chat.text).substr(span.begin, span.end - span.begin), true);
    at = span.end;
  }
  append(spans, std::string_view(chat.text).substr(at), false);
  return std::move(spans.example);
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
    Spans spans;
    if (special_.add_bos && special_.bos >= 0) spans.push(special_.bos, false);
    spans.special = spans.example.ids.size();
    append(spans, record.prompt, false);
    append(spans, record.completion, true);
    if (special_.eos >= 0) spans.push(special_.eos, true);
    example = std::move(spans.example);
  }
  if (!record.labelled) return example;
  const int64_t n = static_cast<int64_t>(example.ids.size());
  for (int64_t i = 0; i < n; ++i) {
    if (!example.trained[static_cast<size_t>(i)]) continue;
    if (example.answer_begin < 0) example.answer_begin = i;
    example.answer_end = i;  // the last trained token ends the turn
  }
  if (!chat_template_ && special_.eos < 0) example.answer_end = n;  // nothing does
  return example;
}

Example RecordEncoder::encode_text(const Record& record, Purpose purpose) const {
  Spans spans;
  const bool training = purpose == Purpose::train;
  if (special_.bos >= 0 && (special_.add_bos || !training)) spans.push(special_.bos, false);
  spans.special = spans.example.ids.size();
  append(spans, record.text, true);
  if (training && special_.add_eos && special_.eos >= 0) spans.push(special_.eos, true);
  return std::move(spans.example);
}

}  // namespace weft::data
