// What crossed the link of each GPU, by the way that it took, and the link itself.
//
// Copies and migrations are known by themselves. What kernels read in place (zero-copy, remote maps) no call and no
// event shows: it is what the link's counters hold beyond both. The counters count packet headers as well; how many was
// measured on an H100 behind PCIe 5: copy engines send 256 bytes a packet and add 7.8 %, multiprocessors that read in
// place 128 bytes and add 15.6 %, and for what comes in requests of 9.4 % go out.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "analyzer/findings/estimate.h"
#include "analyzer/findings/sections.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

constexpr std::array<double, kLinkDirections> kBulkFactor = {1.08, 1.094};  // bytes on the link for a byte copied
constexpr double kInPlaceFactor = 1.156;
constexpr double kRequestsOfBulk = 0.094;  // sent for a byte received
constexpr double kRequestsOfInPlace = 0.188;
// What is left is told apart from the inexact factors and from what the GPU reads for itself from here on.
constexpr double kUnsureShare = 0.03;
constexpr double kUnsureBytes = 8.0 * 1024 * 1024;
// Of the times of copies and migrations: samples and buckets are so far apart.
constexpr uint64_t kUnsureNs = 10'000'000;
constexpr double kFull = 0.8;
// An interval belongs to reading in place if at least this share of what came in it is that.
constexpr double kOfInterval = 0.2;

constexpr std::array<const char*, kLinkDirections> kDirections = {"host_to_device", "device_to_host"};

// Each way, in bytes a second: what the lanes carry after their line code.
double CapacityOf(uint32_t generation, uint32_t width) {
  constexpr std::array<double, 7> kLane = {0, 0.25e9, 0.5e9, 0.985e9, 1.969e9, 3.938e9, 7.563e9};
  return generation < kLane.size() ? kLane[generation] * width : 0;
}

struct Gpu {
  const ProcessModel* described = nullptr;  // by this process
  const DeviceDefinition* definition = nullptr;
  int32_t ordinal = 0;
  // Processes that used it, and their number of it.
  std::vector<std::pair<const ProcessModel*, int32_t>> users;
};

std::vector<Gpu> GpusOf(const Run& run) {
  std::vector<Gpu> gpus;
  std::map<std::string, size_t> by_key;
  for (const auto& process : run) {
    for (const auto& [ordinal, definition] : process->devices) {
      const auto number = static_cast<int32_t>(ordinal);
      const auto [known, is_new] = by_key.try_emplace(GpuKey(*process, number), gpus.size());
      if (is_new) gpus.push_back({process.get(), &definition, number, {}});
      gpus[known->second].users.emplace_back(process.get(), number);
    }
  }
  return gpus;
}

// The fullest series of any process: each has the whole link's.
const LinkCounters* CountersOf(const Gpu& gpu) {
  const LinkCounters* longest = nullptr;
  const auto span = [](const LinkCounters& counters) {
    return counters.samples().back().time_ns - counters.samples().front().time_ns;
  };
  for (const auto& [process, ordinal] : gpu.users) {
    const auto counters = process->traffic.counters.find(ordinal);
    if (counters == process->traffic.counters.end() || counters->second.samples().size() < 2) continue;
    if (longest == nullptr || span(counters->second) > span(*longest)) longest = &counters->second;
  }
  return longest;
}

uint64_t BytesOf(const LinkCopies& copies) {
  uint64_t bytes = 0;
  for (const auto& ways : copies.sums) {
    for (const CopySums& sum : ways) bytes += sum.bytes;
  }
  return bytes;
}

// Calls know less than CUPTI: not the copies of graphs and of static runtimes. Where they know more, CUPTI's are not
// all.
bool CopiesByCupti(const ProcessModel& process) {
  uint64_t bytes = 0;
  for (const auto& [ordinal, copies] : process.traffic.copies) bytes += BytesOf(copies);
  return bytes > 0 && bytes >= BytesOf(process.traffic.called);
}

bool CopiesWereLost(const ProcessModel& process) {
  for (const auto& [key, count] : process.losses) {
    if (count > 0 && (key.first == "copies" || key.first.rfind("cupti", 0) == 0)) return true;
  }
  return false;
}

struct Copied {
  std::array<std::array<uint64_t, kCopyWayCount>, kLinkDirections> bytes{};
  std::array<std::array<uint64_t, kCopyWayCount>, kLinkDirections> busy_ns{};
  std::vector<const LinkCopies*> parts;
  bool cupti = false;
  bool complete = true;
  uint64_t unclear_bytes = 0;

  void Add(const LinkCopies& copies) {
    parts.push_back(&copies);
    for (size_t direction = 0; direction < kLinkDirections; ++direction) {
      for (size_t way = 0; way < kCopyWayCount; ++way) {
        bytes[direction][way] += copies.sums[direction][way].bytes;
        busy_ns[direction][way] += copies.sums[direction][way].busy.length();
      }
    }
  }
  double Between(size_t direction, uint64_t from_ns, uint64_t to_ns) const {
    double sum = 0;
    for (const LinkCopies* part : parts) sum += part->over_time[direction].Between(from_ns, to_ns);
    return sum;
  }
  // All that may have crossed between the two instants and in no pause. Calls wait for other work before they copy, so
  // their copies are in no pause for sure.
  double AtMost(size_t direction, uint64_t from_ns, uint64_t to_ns,
                const std::vector<LinkCounters::Span>& pauses) const {
    double sum = Between(direction, from_ns - std::min(from_ns, kUnsureNs), to_ns + kUnsureNs);
    for (const auto& [pause_ns, until_ns] : pauses) {
      if (cupti) sum -= Between(direction, pause_ns, until_ns);
    }
    return sum;
  }
};

Copied CopiesOf(const Gpu& gpu, bool only_gpu) {
  Copied copied;
  for (const auto& [process, ordinal] : gpu.users) {
    copied.complete &= !CopiesWereLost(*process);
    if (CopiesByCupti(*process)) {
      copied.cupti = true;
      const auto copies = process->traffic.copies.find(ordinal);
      if (copies != process->traffic.copies.end()) copied.Add(copies->second);
    } else if (only_gpu) {
      copied.Add(process->traffic.called);
      copied.unclear_bytes += process->traffic.unclear_bytes;
    } else {
      copied.complete = false;  // the calls do not tell which GPU
    }
  }
  return copied;
}

struct Migrated {
  std::array<uint64_t, kLinkDirections> bytes{};
  std::array<uint64_t, kLinkDirections> busy_ns{};
  bool known = false;
  bool counters = false;
};

Migrated MigrationsOf(const Run& run, const Report& report, const DeviceRow& device) {
  Migrated migrated;
  const bool only_gpu = report.devices_size() == 1;
  migrated.counters = std::all_of(run.begin(), run.end(), [](const auto& process) { return HasCounters(*process); });
  if (only_gpu) {
    const Totals& totals = report.totals();
    migrated.known = totals.has_host_to_device_bytes() && totals.has_device_to_host_bytes();
    migrated.bytes = {totals.host_to_device_bytes(), totals.device_to_host_bytes()};
    for (const MigrationRow& row : report.migrations()) {
      for (size_t direction = 0; direction < kLinkDirections; ++direction) {
        if (row.direction() == kDirections[direction]) migrated.busy_ns[direction] += row.busy_ns();
      }
    }
  } else {
    migrated.known = device.has_exact_host_to_device_bytes();
    migrated.bytes = {device.exact_host_to_device_bytes(), device.exact_device_to_host_bytes()};
  }
  return migrated;
}

TrafficRow* AddRow(const std::string& way, size_t direction, const std::string& device, uint64_t bytes,
                   uint64_t busy_ns, double capacity, double factor, const std::string& measured_by, Report* report) {
  TrafficRow* row = report->add_traffic();
  row->set_way(way);
  row->set_direction(kDirections[direction]);
  row->set_device(device);
  row->set_bytes(bytes);
  row->set_measured_by(measured_by);
  if (busy_ns > 0) {
    row->set_busy_ns(busy_ns);
    row->set_bytes_per_second(static_cast<double>(bytes) * 1e9 / static_cast<double>(busy_ns));
    if (capacity > 0) row->set_share_of_link(std::min(1.0, row->bytes_per_second() * factor / capacity));
  }
  return row;
}

// Memory that a GPU can read in place.
bool MayReadInPlace(const Run& run) {
  for (const MemoryKind kind : {MemoryKind::kPinned, MemoryKind::kRegistered, MemoryKind::kManaged}) {
    if (SumOfKind(run, kind).allocations > 0) return true;
  }
  return false;
}

uint64_t KernelNs(const Gpu& gpu, uint64_t from_ns, uint64_t to_ns) {
  uint64_t busy_ns = 0;
  for (const auto& [process, ordinal] : gpu.users) {
    const auto kernels = process->timeline.kernels.find(ordinal);
    if (kernels != process->timeline.kernels.end()) busy_ns += kernels->second.CoveredNs(from_ns, to_ns);
  }
  return std::min(busy_ns, to_ns - from_ns);
}

class LinkAccount {
 public:
  LinkAccount(const Run& run, const Knowledge& known, const Gpu& gpu, const DeviceRow& device, Report* report)
      : run_(run), known_(known), gpu_(gpu), uuid_(device.uuid()), report_(report) {
    copied_ = CopiesOf(gpu, report->devices_size() == 1);
    migrated_ = MigrationsOf(run, *report, device);
    counters_ = CountersOf(gpu);
    capacity_ = CapacityOf(gpu.definition->link_generation, gpu.definition->link_width);
  }

  void AddLink() {
    const DeviceDefinition& definition = *gpu_.definition;
    if (capacity_ <= 0 && counters_ == nullptr) return;
    LinkRow* row = report_->add_links();
    row->set_device(uuid_);
    if (definition.link_generation > 0) row->set_generation(definition.link_generation);
    if (definition.link_width > 0) row->set_width(definition.link_width);
    if (capacity_ > 0) row->set_capacity_bytes_per_second(capacity_);
    if (definition.host_numa_node && *definition.host_numa_node >= 0) row->set_numa_node(*definition.host_numa_node);
    if (counters_ == nullptr) return;
    const std::vector<LinkSample>& samples = counters_->samples();
    const uint64_t span_ns = samples.back().time_ns - samples.front().time_ns;
    row->set_received_bytes(samples.back().received_bytes - samples.front().received_bytes);
    row->set_sent_bytes(samples.back().sent_bytes - samples.front().sent_bytes);
    row->set_span_ns(span_ns);
    if (capacity_ <= 0) return;
    uint64_t full_ns = 0;
    for (size_t i = 1; i < samples.size(); ++i) {
      const uint64_t length_ns = samples[i].time_ns - samples[i - 1].time_ns;
      const uint64_t most = std::max(samples[i].received_bytes - samples[i - 1].received_bytes,
                                     samples[i].sent_bytes - samples[i - 1].sent_bytes);
      if (static_cast<double>(most) * 1e9 >= kFull * capacity_ * static_cast<double>(length_ns)) full_ns += length_ns;
    }
    row->set_full_share(static_cast<double>(full_ns) / static_cast<double>(span_ns));
  }

  void AddCopies() {
    constexpr std::array<const char*, kCopyWayCount> kWays = {"pageable_copy", "pinned_copy", "copy"};
    for (size_t direction = 0; direction < kLinkDirections; ++direction) {
      for (size_t way = 0; way < kCopyWayCount; ++way) {
        if (copied_.bytes[direction][way] == 0) continue;
        // A call's duration is not the copy's.
        AddRow(kWays[way], direction, uuid_, copied_.bytes[direction][way],
               copied_.cupti ? copied_.busy_ns[direction][way] : 0, capacity_, kBulkFactor[direction],
               copied_.cupti ? "cupti" : "calls", report_);
      }
    }
  }

  void AddMigrations() {
    for (size_t direction = 0; direction < kLinkDirections; ++direction) {
      if (!migrated_.known || migrated_.bytes[direction] == 0) continue;
      AddRow("migration", direction, uuid_, migrated_.bytes[direction], migrated_.busy_ns[direction], capacity_,
             kBulkFactor[direction],
             migrated_.counters     ? "driver_counters"
             : known_.fault_entries ? "driver_queue"
                                    : "cupti",
             report_);
    }
  }

  void AddRest() {
    if (counters_ == nullptr || !run_.front()->timeline.filter.everything()) return;
    double in_place = 0;
    for (size_t direction = 0; direction < kLinkDirections; ++direction) {
      const double left = RestOf(direction, in_place);
      if (left <= 0) continue;
      AddRestRow(direction, left);
      if (direction == 0) in_place = left;
    }
  }

 private:
  // The series of a direction between two samples.
  static uint64_t Raw(size_t direction, const LinkSample& from, const LinkSample& to) {
    return direction == 0 ? to.received_bytes - from.received_bytes : to.sent_bytes - from.sent_bytes;
  }

  // Payload that neither copies nor migrations explain; 0: within what the factors leave unsure.
  double RestOf(size_t direction, double in_place) const {
    const LinkSample& first = counters_->samples().front();
    const LinkSample& last = counters_->samples().back();
    double explained =
        kBulkFactor[direction] * (KnownWhileCounted(direction) + static_cast<double>(copied_.unclear_bytes));
    if (direction == 1) explained += kRequestsOfBulk * KnownWhileCounted(0) + kRequestsOfInPlace * in_place;
    const double left = static_cast<double>(Raw(direction, first, last)) - explained;
    return left > kUnsureBytes + kUnsureShare * explained ? left / kInPlaceFactor : 0;
  }

  // As the driver's counters have it; nothing where it has none of this GPU.
  std::optional<double> MigratedBetween(size_t direction, uint64_t from_ns, uint64_t to_ns) const {
    std::optional<double> sum;
    for (const auto& [process, ordinal] : gpu_.users) {
      const auto& series = process->traffic.migrated;
      auto of_gpu = series.find(ordinal);
      if (of_gpu == series.end() && report_->devices_size() == 1) of_gpu = series.find(kCpu);
      if (of_gpu == series.end()) continue;
      sum = sum.value_or(0) + of_gpu->second.Between(direction, from_ns, to_ns);
    }
    return sum;
  }

  // Payload of copies and migrations while the link's counters were read: what crossed it before, in a pause or
  // afterwards is not in them.
  double KnownWhileCounted(size_t direction) const {
    const uint64_t first_ns = counters_->samples().front().time_ns;
    const uint64_t last_ns = counters_->samples().back().time_ns;
    std::vector<LinkCounters::Span> pauses;
    for (const auto& [from_ns, to_ns] : counters_->pauses()) {
      if (to_ns - from_ns > 2 * kUnsureNs) pauses.emplace_back(from_ns + kUnsureNs, to_ns - kUnsureNs);
    }
    const double copies = copied_.AtMost(direction, first_ns, last_ns, pauses);
    auto migrated = MigratedBetween(direction, first_ns, last_ns);
    // When these crossed it is not known: all of it may have been then.
    if (!migrated) return copies + static_cast<double>(migrated_.bytes[direction]);
    for (const auto& [from_ns, to_ns] : pauses) *migrated -= *MigratedBetween(direction, from_ns, to_ns);
    return copies + *migrated;
  }

  // The time of kernels, where there are any, in the intervals in which a good part of the bytes is not explained.
  uint64_t BusyNs(size_t direction) const {
    const std::vector<LinkSample>& samples = counters_->samples();
    uint64_t busy_ns = 0;
    for (size_t i = 1; i < samples.size(); ++i) {
      const uint64_t from_ns = samples[i - 1].time_ns;
      const uint64_t to_ns = samples[i].time_ns;
      const auto raw = static_cast<double>(Raw(direction, samples[i - 1], samples[i]));
      if (raw < 64 * 1024) continue;
      const double explained = kBulkFactor[direction] * (copied_.Between(direction, from_ns, to_ns) +
                                                         MigratedBetween(direction, from_ns, to_ns).value_or(0));
      if (raw - explained < kOfInterval * raw) continue;
      busy_ns += known_.kernels ? KernelNs(gpu_, from_ns, to_ns) : to_ns - from_ns;
    }
    return busy_ns;
  }

  void AddRestRow(size_t direction, double bytes) {
    // It is called reading in place only where nothing else is known that could be it.
    const bool managed = SumOfKind(run_, MemoryKind::kManaged).allocations > 0;
    const bool sure = MayReadInPlace(run_) && copied_.complete && (migrated_.known || !managed);
    TrafficRow* row = AddRow(sure ? "in_place" : "other", direction, uuid_, RoundToBytes(bytes), BusyNs(direction),
                             capacity_, kInPlaceFactor, "link_counters", report_);
    std::string note =
        "The link's counters are the whole GPU's: other processes, peers, and what the GPU fetches for "
        "itself are in it.";
    if (!copied_.complete) note += " Records of copies were lost, so it may be copies.";
    if (managed && !migrated_.known) note += " Migrations were not recorded, so it may be migrations.";
    if (counters_->unsure_ns() > 0) {
      note += fmt::format(" For {} the counters were read too seldom and may have wrapped: it is at least this.",
                          FormatDuration(counters_->unsure_ns()));
    }
    if (direction == 1) note += " How many headers writes in place have was not measured: 15.6 % is that of reads.";
    row->set_note(note);
  }

  const Run& run_;
  const Knowledge& known_;
  const Gpu& gpu_;
  const std::string uuid_;
  Report* report_;
  Copied copied_;
  Migrated migrated_;
  const LinkCounters* counters_ = nullptr;
  double capacity_ = 0;
};

}  // namespace

void AddTraffic(const Run& run, const Knowledge& known, Report* report) {
  const std::vector<Gpu> gpus = GpusOf(run);
  for (size_t i = 0; i < gpus.size() && i < static_cast<size_t>(report->devices_size()); ++i) {
    const DeviceRow device = report->devices(static_cast<int>(i));
    LinkAccount account(run, known, gpus[i], device, report);
    account.AddLink();
    account.AddCopies();
    account.AddMigrations();
    account.AddRest();
  }
}

}  // namespace uvmtrace::analyzer
