#include "examples/oversub/arguments.h"

#include <CLI/CLI.hpp>
#include <map>

#include "examples/oversub/mode.h"

namespace oversub {

ParseResult ParseArguments(int argc, char** argv, Arguments* arguments) {
  CLI::App app(
      "m chunks of data take turns on a GPU that has room for k of them. Measures what it costs to swap by hand\n"
      "(pageable or pinned copies) and to let unified memory do it (page faults, prefetch, advice), and checks the "
      "data.");
  const std::map<std::string, Pattern> patterns = {{"sequential", Pattern::kSequential},
                                                   {"strided", Pattern::kStrided},
                                                   {"random", Pattern::kRandom},
                                                   {"ping-pong", Pattern::kPingPong}};
  const std::map<std::string, bool> initialisations = {{"before", false}, {"prefill", true}};
  const std::map<std::string, bool> host_codes = {{"O0", false}, {"O3", true}};
  examples::AddChoiceOption(&app, "--mode", &arguments->modes, ModeNames(), "Ways to bring a chunk in");
  app.add_option("-m", arguments->chunks, "Chunks of data")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  app.add_option("-k", arguments->resident_chunks, "Chunks that fit on the GPU")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  examples::AddCommonOptions(
      &app, arguments,
      "Device memory to use, as 2GiB or 64MiB: the program itself evicts the least recently used chunk, and "
      "the GPU is never oversubscribed. Without it: all free device memory, and the driver evicts");
  examples::AddSizeOption(&app, "--chunk", &arguments->chunk_bytes,
                          "Size of a chunk (default: capacity / k); rounded down to 2 MiB");
  app.add_option("--cycles", arguments->cycles, "Passes over all chunks")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--pattern", arguments->pattern,
                 "Order of the pages in a chunk (sequential, strided, random); with ping-pong the host checks and "
                 "rewrites each chunk after the GPU did")
      ->transform(CLI::CheckedTransformer(patterns));
  app.add_option("--init", arguments->initialise_in_prefill,
                 "When the host first touches a chunk: before the timers, or in the prefill as the blog post did")
      ->transform(CLI::CheckedTransformer(initialisations));
  app.add_option("--host-code", arguments->optimised_host,
                 "How the host's own loops are compiled: O0 or O3 (the blog post's remark on -O3)")
      ->transform(CLI::CheckedTransformer(host_codes));
  app.add_option("--affinity", arguments->affinity,
                 "Pin the host thread and its memory to the NUMA node of the GPU, or away from it")
      ->check(CLI::IsMember({"none", "near", "away"}))
      ->capture_default_str();
  app.add_option("--time-limit", arguments->time_limit_seconds,
                 "Seconds after which a mode is given up, looked at between chunks")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--readonly", arguments->readonly, "The kernel only reads: do clean chunks still travel back?");
  app.add_flag("--verify-host", arguments->verify_host,
               "After the last cycle also read everything on the host; this moves what is still on the GPU");
  return examples::Parse(&app, argc, argv);
}

}  // namespace oversub
