# Tests that are scripts: every *_test.sh and *_test.py below tests/, and the layout check. A script
# gets WEFT_BINARY and WEFT_SOURCE_DIR, says why and exits 77 where it cannot run, and may have a
# line "# labels: slow torch" (torch: runs with the Python of WEFT_PYTHON).
find_package(Python3 REQUIRED COMPONENTS Interpreter)

add_test(NAME layout COMMAND ${Python3_EXECUTABLE} tools/check_layout.py
  WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})

file(GLOB_RECURSE scripts RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} CONFIGURE_DEPENDS
  *_test.sh *_test.py)
foreach(script ${scripts})
  file(STRINGS ${script} header REGEX "^# labels: " LIMIT_COUNT 1)
  string(REGEX REPLACE "^# labels: " "" labels "${header}")
  string(REPLACE " " ";" labels "${labels}")
  string(REGEX REPLACE "\\.(sh|py)$" "" name ${script})
  set(runner bash)
  if(script MATCHES "\\.py$")
    set(runner ${Python3_EXECUTABLE})
    if("torch" IN_LIST labels)
      set(runner ${CMAKE_SOURCE_DIR}/tests/support/python.sh)
    endif()
  endif()
  add_test(NAME ${name} COMMAND ${runner} ${CMAKE_CURRENT_SOURCE_DIR}/${script})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 3600 LABELS "${labels}"
    ENVIRONMENT "WEFT_BINARY=${CMAKE_BINARY_DIR}/weft;WEFT_SOURCE_DIR=${CMAKE_SOURCE_DIR}")
endforeach()
include(parallel/mpi/tests.cmake)

# What the scripts in tests/interop compare with; every .cc file there is one program.
file(GLOB drivers CONFIGURE_DEPENDS interop/*.cc)
foreach(source ${drivers})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE weft_engine)
endforeach()
target_sources(write_checkpoints PRIVATE checkpoint/sample_run.cc)
target_link_libraries(write_checkpoints PRIVATE GTest::gtest)
