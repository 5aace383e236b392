#include "checkpoint/gguf_names.h"

#include <string_view>

namespace weft::checkpoint {
namespace {

struct NamePair {
  std::string_view gguf, hf;
};

constexpr NamePair kWhole[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

// Between "blk.N." or "model.layers.N." and ".weight" or ".bias".
constexpr NamePair kInLayer[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

constexpr std::string_view kGgufLayer = "blk.", kHfLayer = "model.layers.";

bool is_layer_number(std::string_view text) {
  if (text.empty() || text.size() > 9 || (text.size() > 1 && text[0] == '0')) return false;
  return text.find_first_not_of("0123456789") == std::string_view::npos;
}

// Rewrites `name` from the spelling of member `from` to that of member `to`; empty: no such name.
std::string translate(std::string_view name, std::string_view NamePair::*from,
                      std::string_view NamePair::*to) {
  for (const NamePair& pair : kWhole)
    if (name == pair.*from) return std::string(pair.*to);
  const bool from_gguf = from == &NamePair::gguf;
  const std::string_view prefix = from_gguf ? kGgufLayer : kHfLayer;
  if (name.substr(0, prefix.size()) != prefix) return "";
  name.remove_prefix(prefix.size());
  const size_t dot = name.find('.'), last = name.rfind('.');
  if (dot == std::string_view::npos || dot == last || !is_layer_number(name.substr(0, dot)))
    return "";
  const std::string_view stem = name.substr(dot + 1, last - dot - 1), kind = name.substr(last);
  if (kind != ".weight" && kind != ".bias") return "";
  for (const NamePair& pair : kInLayer) {
    if (stem != pair.*from) continue;
    std::string out(from_gguf ? kHfLayer : kGgufLayer);
    return out.append(name.substr(0, dot)).append(".").append(pair.*to).append(kind);
  }
  return "";
}

}  // namespace

std::string hf_name_of(const std::string& gguf_name) {
  const std::string name = translate(gguf_name, &NamePair::gguf, &NamePair::hf);
  return name.empty() ? gguf_name : name;
}

std::string gguf_name_of(const std::string& hf_name) {
  return translate(hf_name, &NamePair::hf, &NamePair::gguf);
}

bool is_rotated(const std::string& hf_name) {
  return hf_name.find(".self_attn.q_proj.") != std::string::npos ||
         hf_name.find(".self_attn.k_proj.") != std::string::npos;
}

int64_t gguf_row_of(int64_t hf_row, int64_t head_dim) {
  const int64_t in_head = hf_row % head_dim, half = head_dim / 2;
  return hf_row - in_head + in_head % half * 2 + in_head / half;
}

int64_t hf_row_of(int64_t gguf_row, int64_t head_dim) {
  const int64_t in_head = gguf_row % head_dim, half = head_dim / 2;
  return gguf_row - in_head + in_head % 2 * half + in_head / 2;
}

}  // namespace weft::checkpoint
