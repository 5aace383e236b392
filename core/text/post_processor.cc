#include "core/text/post_processor.h"

#include "core/base/error.h"
#include "core/text/json_fields.h"

namespace weft::text {
namespace {

std::vector<int32_t> ids_of(const Json& special_tokens, const std::string& name,
                            const std::string& where) {
  const Json* token = special_tokens.find(name);
  if (!token) fail(ErrorKind::bad_data, "{}: special_tokens lacks '{}'", where, name);
  JsonFields fields(*token, where + ".special_tokens." + name);
  fields.ignore({"id", "tokens"});
  std::vector<int32_t> ids;
  for (const Json& id : fields.array("ids")) {
    if (!id.is_int() || id.as_int() < 0 || id.as_int() > INT32_MAX)
      fail(ErrorKind::bad_data, "{}: the id {} is out of range", fields.where(), id.dump());
    ids.push_back(static_cast<int32_t>(id.as_int()));
  }
  fields.finish();
  return ids;
}

PostProcessor from_template(JsonFields& fields) {
  fields.ignore({"pair"});
  const Json& special_tokens = fields.at("special_tokens");
  PostProcessor out;
  bool text_seen = false;
  for (const Json& piece : fields.array("single")) {
    JsonFields item(piece, fields.where() + ".single");
    if (const Json* special = item.find("SpecialToken")) {
      JsonFields token(*special, item.where());
      const auto ids = ids_of(special_tokens, token.string("id"), fields.where());
      auto& side = text_seen ? out.suffix : out.prefix;
      side.insert(side.end(), ids.begin(), ids.end());
    } else {
      JsonFields sequence(item.at("Sequence"), item.where());
      if (text_seen || sequence.string("id") != "A")
        fail(ErrorKind::bad_data, "{}: a template with the text twice is not supported",
             item.where());
      text_seen = true;
    }
    item.finish();
  }
  if (!text_seen)
    fail(ErrorKind::bad_data, "{}: the template 'single' lacks the text", fields.where());
  return out;
}

}  // namespace

PostProcessor PostProcessor::from_json(const Json& definition, const std::string& where) {
  if (definition.is_null()) return {};
  JsonFields fields(definition, where);
  const std::string type = fields.string("type");
  PostProcessor out;
  if (type == "Sequence") {
    size_t index = 0;
    for (const Json& part : fields.array("processors")) {
      const PostProcessor inner = from_json(part, fmt::format("{}.processors[{}]", where, index++));
      out.prefix.insert(out.prefix.begin(), inner.prefix.begin(), inner.prefix.end());
      out.suffix.insert(out.suffix.end(), inner.suffix.begin(), inner.suffix.end());
    }
  } else if (type == "ByteLevel") {
    fields.ignore({"add_prefix_space", "trim_offsets", "use_regex"});
  } else if (type == "TemplateProcessing") {
    out = from_template(fields);
  } else {
    fail(ErrorKind::bad_data, "{}: post-processor '{}' is not supported", where, type);
  }
  fields.finish();
  return out;
}

}  // namespace weft::text
