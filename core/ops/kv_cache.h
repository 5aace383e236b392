// The cache of keys and values of generation: rows of tokens, written and counted on by tensors
// that lie where the cache does, so that a step of decoding is the same launches every time.
#pragma once

#include "core/tensor/tensor.h"

namespace weft::ops {

// qkv[T, (num_heads + 2 num_kv_heads) * head_dim]: its q is rotated in place (rope.h); k, rotated,
// and v go to the rows rows_T of keys and values [rows, num_kv_heads * head_dim]. Rows are distinct
// and within the cache: the caller has checked. What qkv's k holds afterwards is not specified.
struct RopeStoreArgs {
  const Tensor& qkv;
  const Tensor& table;   // [T, head_dim], of ops::rope_table; undefined: q and k are turned already
  const Tensor& rows_T;  // i32
  const Tensor& keys;
  const Tensor& values;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
};
void rope_store(const RopeStoreArgs& args);

// Where B sequences stand that decode a token each a step; i32 [B], on one device.
struct CachePlaces {
  Tensor positions;   // of the token that runs next
  Tensor rows;        // the row of the cache that it goes to
  Tensor first_rows;  // of the sequence: its keys are first_rows[b] .. rows[b]
  Tensor last_rows;   // that the sequence owns
};
// After a step: the next position and row. A sequence at its last row stays there (its further
// tokens are for nobody, and must not touch another's rows).
void advance(const CachePlaces& places);

namespace cpu {
void rope_store(const RopeStoreArgs& args);
void advance(const CachePlaces& places);
}  // namespace cpu
namespace cuda {
void rope_store(const RopeStoreArgs& args);
void advance(const CachePlaces& places);
}  // namespace cuda

}  // namespace weft::ops
