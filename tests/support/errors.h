// What an action that must fail says.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "core/base/error.h"

namespace weft::test {

// The message of the Error that `action` throws, after checking its kind.
template <class F>
std::string error_of(ErrorKind kind, F action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

}  // namespace weft::test
