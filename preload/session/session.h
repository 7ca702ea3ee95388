// The life of a recording in this process.
//
//   not started --first intercepted call--> starting --> running --exit--> closing --> closed
//                                              \--> failed (no file, no threads)
//
// The state is a word in a page that the kernel wipes in a forked child, so that a child finds itself "not started" by
// whatever way it was made; it starts its own session, with its own file, at its first CUDA call. A child that shares
// our memory (vfork) does nothing here: it may only exec or _exit.
#pragma once

#include <atomic>
#include <cstdint>

#include "preload/calls/cuda_api.h"

namespace uvmtrace {

enum class SessionState : uint32_t { kNotStarted = 0, kStarting, kRunning, kClosing, kClosed, kFailed };

// Points to the word; never null.
extern constinit std::atomic<std::atomic<SessionState>*> session_state;

// How many frames of a stack are recorded: 0 for none.
extern constinit std::atomic<int> session_stack_frames;

inline bool SessionRunning() {
  return session_state.load(std::memory_order_acquire)->load(std::memory_order_acquire) == SessionState::kRunning;
}

// Starts a session if there is none, or waits a moment for the thread that is starting it. Returns whether calls are to
// be recorded. From outside of any intercepted call; keeps errno.
bool EnsureSession();

// After a cuInit: defines the devices, or says why there are none.
void AfterInitialize(CUresult result);

// When the first context exists: starts what is sampled in every program.
void EnsureSampler();

// When there is much pinned memory: starts the source of kernels and copies.
void EnsureKernelSources();

// Before the first managed allocation is made, or after it if only the runtime was intercepted: starts the sources of
// faults and migrations. Later calls return at once.
void EnsureManagedSources();

// A managed allocation came to life.
void ManagedMemoryAllocated(uint64_t address, uint64_t bytes);

// Around the real free. BeginFree returns the bytes of a managed allocation, 0 if it is none; the sources go on
// watching until EndFree, since the real free waits for kernels that may fault on the memory until then.
uint64_t ManagedMemoryBeginFree(uint64_t address);
void ManagedMemoryEndFree(uint64_t address, uint64_t bytes, bool freed);

// Ends the sources, within their share of the time that an exit may take. Once.
void FinishSources();

// FinishSources, then the last chunk. Does nothing in a process, or a vfork child, that has no session of its own.
void FinishSession();

// Starts a session in a process that was not preloaded, where CUDA itself loaded this library.
void StartInjectedSession();

// Set when the sources are to start as soon as the outermost call has returned: starting CUPTI beneath a runtime that
// is initialising itself would call back into it.
extern constinit std::atomic<bool> sources_wanted;

}  // namespace uvmtrace
