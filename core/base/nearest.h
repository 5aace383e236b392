// "Did you mean ...?" for keys, names and options.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace weft {

// Edits (insert, delete, replace, swap neighbours) that turn one text into the other; '-' and '_'
// are the same, case is ignored.
size_t edit_distance(std::string_view a, std::string_view b);

// The candidate with the smallest distance (the first of equals); empty when there is none.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace weft
