// Model files made byte by byte, so that tests can break any rule of a format.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

namespace weft::test {

template <class T>
std::string bytes_of(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

inline void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

inline std::string safetensors_bytes(const std::string& header, const std::string& data) {
  return bytes_of<uint64_t>(header.size()) + header + data;
}

// A GGUF in pieces. Every piece may be replaced by a broken one.
struct GgufBytes {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::vector<std::string> keys;     // whole entries
  std::vector<std::string> tensors;  // whole infos
  std::string data;
  int64_t claim_keys = -1, claim_tensors = -1;  // -1: as many as there are
  size_t alignment = 32;

  static std::string text(const std::string& text) {
    return bytes_of<uint64_t>(text.size()) + text;
  }
  static std::string key(const std::string& name, uint32_t type, const std::string& value) {
    return text(name) + bytes_of(type) + value;
  }
  static std::string u32(const std::string& name, uint32_t value) {
    return key(name, 4, bytes_of(value));
  }
  static std::string f32(const std::string& name, float value) {
    return key(name, 6, bytes_of(value));
  }
  static std::string string(const std::string& name, const std::string& value) {
    return key(name, 8, text(value));
  }
  // dims as in the file: fastest first.
  static std::string tensor(const std::string& name, const std::vector<uint64_t>& dims,
                            uint32_t type, uint64_t offset) {
    return text(name) + bytes_of(static_cast<uint32_t>(dims.size())) + bytes_of(dims) +
           bytes_of(type) + bytes_of(offset);
  }

  std::string bytes() const {
    const auto count = [](int64_t claim, size_t real) {
      return bytes_of<uint64_t>(claim < 0 ? real : static_cast<uint64_t>(claim));
    };
    std::string out = magic + bytes_of(version) + count(claim_tensors, tensors.size()) +
                      count(claim_keys, keys.size());
    for (const std::string& key : keys) out += key;
    for (const std::string& tensor : tensors) out += tensor;
    out.resize((out.size() + alignment - 1) / alignment * alignment, '\0');
    return out + data;
  }
};

}  // namespace weft::test
