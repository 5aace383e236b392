# Ranks as processes: each test starts mpirun, and the program checks that it has as many ranks as it should.
add_executable(mpi_ranks parallel/mpi/mpi_ranks.cc parallel/collectives.cc)
target_link_libraries(mpi_ranks PRIVATE weft_engine)
find_program(WEFT_MPIRUN NAMES mpirun REQUIRED)

function(weft_mpi_test claim ranks)
  add_test(NAME tests/parallel/mpi.${claim}.${ranks}
    COMMAND ${WEFT_MPIRUN} --oversubscribe --bind-to none -np ${ranks} $<TARGET_FILE:mpi_ranks>
            ${claim} ${ranks})
  set_tests_properties(tests/parallel/mpi.${claim}.${ranks} PROPERTIES TIMEOUT 300
    PASS_REGULAR_EXPRESSION "ok ${claim} ${ranks}" SKIP_REGULAR_EXPRESSION "skipped:"
    ENVIRONMENT "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
endfunction()
function(weft_mpi_failure_test claim exit_code message)
  add_test(NAME tests/parallel/mpi.${claim}
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/parallel/mpi/failure.sh $<TARGET_FILE:mpi_ranks>
            ${claim} ${exit_code} ${message} ${ARGN})
  set_tests_properties(tests/parallel/mpi.${claim} PROPERTIES TIMEOUT 120 SKIP_RETURN_CODE 77
    ENVIRONMENT "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
endfunction()

foreach(ranks 1 2 3 4)
  weft_mpi_test(collectives ${ranks})
endforeach()
weft_mpi_test(progress 2)
weft_mpi_test(idle 2)
weft_mpi_failure_test(failure 74 "disk full")
weft_mpi_failure_test(all_fail 64 "unknown key: lrr")
weft_mpi_failure_test(disagreement 70 "ranks disagree")
weft_mpi_failure_test(gone any "a call has not ended.*rank 1 (process [0-9]*) is gone" 2)

# Ranks on GPUs: skipped where there are too few.
foreach(ranks 2 4)
  weft_mpi_test(nccl ${ranks})
endforeach()
weft_mpi_test(nccl_memory 2)
weft_mpi_test(nccl_speed 2)
weft_mpi_failure_test(nccl_hang 69 "reduce_scatter of model.layers.3" 2)
weft_mpi_failure_test(nccl_stop 69 "rank 1 (process [0-9]*) is stopped" 2)
weft_mpi_failure_test(nccl_gone any "reduce_scatter of model.layers.3.*rank 1 (process [0-9]*) is gone" 2)
weft_mpi_failure_test(nccl_kill 137 "on signal 9" 2)
weft_mpi_failure_test(nccl_error 74 "disk full" 2)
# Here mpirun does not end the others when a rank dies; its exit code is its own then.
set_property(TEST tests/parallel/mpi.gone tests/parallel/mpi.nccl_gone APPEND PROPERTY ENVIRONMENT
  WEFT_MPIRUN_OPTIONS=--enable-recovery)
