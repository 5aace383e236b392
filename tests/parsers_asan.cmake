# What reads files from strangers (JSON, YAML, tokenizers, templates, GGUF, safetensors), compiled a
# second time with AddressSanitizer and UndefinedBehaviorSanitizer, under its own tests. The rest of
# the engine comes from the normal library: the linker takes an object from the first archive that
# has it.
if(WEFT_SANITIZE)
  return()  # everything is instrumented already
endif()
option(WEFT_PARSERS_ASAN "Also build the parsers' tests with ASan and UBSan" ON)
if(NOT WEFT_PARSERS_ASAN)
  return()
endif()

file(GLOB_RECURSE parser_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/core/base/*.cc
  ${CMAKE_SOURCE_DIR}/core/text/*.cc ${CMAKE_SOURCE_DIR}/checkpoint/gguf*.cc
  ${CMAKE_SOURCE_DIR}/checkpoint/safetensors*.cc ${CMAKE_SOURCE_DIR}/checkpoint/mapped_file.cc)
list(FILTER parser_sources EXCLUDE REGEX hdf5)  # a library's own reading
file(GLOB_RECURSE parser_tests CONFIGURE_DEPENDS core/base/*_test.cc core/text/*_test.cc
  checkpoint/gguf*_test.cc checkpoint/safetensors*_test.cc checkpoint/mutation*_test.cc)

add_library(weft_parsers_asan STATIC ${parser_sources})
target_compile_options(weft_parsers_asan PRIVATE -O1 -g1 -Wno-unused-parameter)
target_include_directories(weft_parsers_asan PUBLIC ${CMAKE_SOURCE_DIR})
target_link_libraries(weft_parsers_asan PUBLIC fmt::fmt PRIVATE spdlog::spdlog
  nlohmann_json::nlohmann_json yaml-cpp PkgConfig::PCRE2 PkgConfig::UTF8PROC PkgConfig::XXHASH)

add_executable(parsers_asan_test ${parser_tests})
target_compile_options(parsers_asan_test PRIVATE -O1 -g1)
target_compile_definitions(parsers_asan_test PRIVATE WEFT_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
target_link_libraries(parsers_asan_test PRIVATE weft_parsers_asan weft_engine GTest::gmock
  GTest::gtest_main)
foreach(target weft_parsers_asan parsers_asan_test)
  target_compile_options(${target} PRIVATE -fsanitize=address,undefined -fno-sanitize-recover=all
    -fno-omit-frame-pointer)
endforeach()
target_link_options(parsers_asan_test PRIVATE -fsanitize=address,undefined)
# One process for all: starting hundreds of them would take longer than the tests.
add_test(NAME parsers_asan COMMAND parsers_asan_test --gtest_brief=1 --gtest_filter=-Slow*:Jinja.HugeTextsStopQuickly)
set_tests_properties(parsers_asan PROPERTIES TIMEOUT 900)
