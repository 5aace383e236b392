// The table of product algorithms of a run on GPUs: timed by rank 0 in a warm-up, sent to all
// ranks, kept in a cache file for the next run and in the run's folder for its resumption.
#pragma once

#include <string>

#include "core/ops/product_algorithms.h"
#include "parallel/communicator.h"
#include "recipes/model.h"
#include "recipes/run_config.h"

namespace weft::recipes {

inline constexpr const char* kProductFile = "product_algorithms.txt";  // in the run's folder

// Collective, once, before the first step; nothing on CPUs. The run's own table counts first, then
// the cache's; rank 0 computes one micro-batch of full size to time what both lack. Weights,
// optimizer and data do not notice; gradients are zero afterwards.
// `default_cache`: the folder of the cache file where train.algorithm_cache names none; "": no
// file.
void choose_product_algorithms(const Model& model, const RunConfig& config,
                               const std::string& default_cache, parallel::Communicator& world);

// "products-NVIDIA-H200-cublaslt-130100.txt"
std::string product_cache_name(const ops::ProductLibrary& library);

// The table in the file; empty where there is none. A file that is damaged is warned of by name,
// and one of another GPU or library mentioned: both are as none.
ops::ProductTable read_product_file(const std::string& path, const ops::ProductLibrary& library);

// Makes the folder where it is missing; readers see the old file or the new one. Throws io.
void write_product_file(const std::string& path, const ops::ProductLibrary& library,
                        const ops::ProductTable& table);

}  // namespace weft::recipes
