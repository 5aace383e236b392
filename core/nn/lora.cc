#include "core/nn/lora.h"

#include <cmath>
#include <set>
#include <string_view>

#include "core/base/error.h"
#include "core/ops/elementwise.h"

namespace weft::nn {
namespace {

bool names(std::string_view target, std::string_view module) {
  if (target == "all" || target == "all-linear") return true;
  if (target == "query_key_value")
    return names("q_proj", module) || names("k_proj", module) || names("v_proj", module);
  return module.ends_with(target) &&
         (module.size() == target.size() || module[module.size() - target.size() - 1] == '.');
}

void adapt(ProjectionMember& member, const AdapterSpec& spec) {
  const Parameter& w = *member.weight;
  const int64_t out = w.shape[0], in = w.shape[1];
  const bool row_parallel = w.partition.dim == 1;
  Adapter adapter;
  adapter.scale = static_cast<float>(spec.scale);
  adapter.a = std::make_shared<Parameter>(Parameter{
      .name = member.name + ".lora_A.weight",
      .shape = {spec.rank, in},
      .dtype = w.dtype,
      .init = {Init::Kind::uniform, static_cast<float>(1 / std::sqrt(static_cast<double>(in)))},
      .partition = row_parallel ? w.partition : Partition{}});
  adapter.b =
      std::make_shared<Parameter>(Parameter{.name = member.name + ".lora_B.weight",
                                            .shape = {out, spec.rank},
                                            .dtype = w.dtype,
                                            .init = {Init::Kind::zeros, 0},
                                            .partition = row_parallel ? Partition{} : w.partition});
  if (spec.dora) {
    adapter.magnitude = std::make_shared<Parameter>(
        Parameter{.name = member.name + ".lora_magnitude_vector",
                  .shape = {out},
                  .dtype = w.dtype,
                  .decay = false,
                  .partition = row_parallel ? Partition{} : w.partition});
  }
  member.adapter = adapter;
  if (!spec.dora) return;
  // A copy with handles of its own: the magnitude must not own the member that owns it.
  ProjectionMember plain = member;
  plain.adapter->magnitude = nullptr;
  member.adapter->magnitude->init_from_loaded = [plain](Parameter& magnitude) {
    ops::cast(adapted_row_norms(plain), magnitude.value);
  };
}

}  // namespace

int64_t apply_adapters(const std::vector<Projection*>& projections,
                       const std::vector<ParameterPtr>& parameters, const AdapterOf& adapter_of) {
  for (const ParameterPtr& parameter : parameters) parameter->trainable = false;
  int64_t count = 0;
  for (Projection* projection : projections) {
    for (ProjectionMember& member : projection->members()) {
      const std::optional<AdapterSpec> spec = adapter_of(member.name);
      if (!spec) continue;
      adapt(member, *spec);
      ++count;
    }
  }
  return count;
}

void apply_lora(const std::vector<Projection*>& projections,
                const std::vector<ParameterPtr>& parameters, const LoraConfig& config) {
  std::set<std::string> unmatched(config.targets.begin(), config.targets.end());
  std::set<std::string> modules;
  const AdapterSpec spec{config.rank, config.scale(), config.dora};
  apply_adapters(projections, parameters, [&](const std::string& module) {
    modules.insert(module.substr(module.rfind('.') + 1));
    std::optional<AdapterSpec> wanted;
    for (const std::string& target : config.targets)
      if (names(target, module)) wanted = spec, unmatched.erase(target);
    return wanted;
  });
  for (Projection* projection : projections) projection->dropout = config.dropout;
  if (unmatched.empty()) return;
  std::string known;
  for (const std::string& module : modules) known += (known.empty() ? "" : ", ") + module;
  fail(ErrorKind::usage, "lora.targets: '{}' matches no linear layer of this model (it has {})",
       *unmatched.begin(), known);
}

}  // namespace weft::nn
