// One weight's two names: GGUF's and Hugging Face's; and the order of rows in arch llama.
#pragma once

#include <cstdint>
#include <string>

namespace weft::checkpoint {

// Names that no table has come back unchanged from hf_name_of and empty from gguf_name_of.
std::string hf_name_of(const std::string& gguf_name);
std::string gguf_name_of(const std::string& hf_name);

// Arch llama rotates neighbouring pairs, Hugging Face's models halves of a head: the rows of q_proj
// and k_proj (weights and biases) change places within each head.
bool is_rotated(const std::string& hf_name);
int64_t gguf_row_of(int64_t hf_row, int64_t head_dim);
int64_t hf_row_of(int64_t gguf_row, int64_t head_dim);

}  // namespace weft::checkpoint
