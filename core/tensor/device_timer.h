// Moments on the streams of GPUs: what a timer or a trace reads once the work is over. In a build
// without CUDA every function throws unavailable.
#pragma once

#include <string>

namespace weft::device_timer {

void* make(int gpu);              // cudaEvent_t that keeps its time
void give(void* event) noexcept;  // asynchronous; null is allowed
// Marks this point of the stream. False, and nothing happens, while the stream is being captured
// into a graph: a captured event has no time.
bool record(void* event, void* stream, int gpu);
double seconds(void* from, void* to);  // between two recorded events; waits for the later one
std::string gpu_name(int gpu);         // "NVIDIA H200"

}  // namespace weft::device_timer
