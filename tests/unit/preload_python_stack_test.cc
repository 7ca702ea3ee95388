// Python stacks, taken in a function that Python calls: with and without the GIL, by layout and by API, against what
// Python itself says. Each test has an interpreter of its own in a child process.
#define PY_SSIZE_T_CLEAN
#include <sys/uio.h>
#include <unistd.h>
#include <chrono>
#include <Python.h>
// Before anything that has to do with the standard headers, as Python wants it.

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <functional>
#include <thread>

#include "preload/doors/resolve.h"
#include "preload/stacks/python_interpreter.h"
#include "preload/stacks/python_stack.h"
#include "record_test_util.h"

namespace uvmtrace {

// Nothing stands between the test and the C library's.
DlsymFunction LibcDlsym() { return &dlsym; }

namespace {

using namespace uvmtrace::testing;  // NOLINT

struct Frame {
  std::string file;
  std::string function;
  uint32_t line;
  bool operator==(const Frame&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Frame& frame) {
  return out << frame.function << " (" << frame.file << ":" << frame.line << ")";
}

std::array<uint64_t, 128> captured;
size_t captured_count = 0;
size_t wanted = captured.size();
double fastest_us = 0;

PyObject* Capture(PyObject*, PyObject*) {
  captured_count = CapturePythonStack({captured.data(), wanted});
  Py_RETURN_NONE;
}

PyObject* CaptureWithoutGil(PyObject*, PyObject*) {
  Py_BEGIN_ALLOW_THREADS;
  captured_count = CapturePythonStack({captured.data(), wanted});
  Py_END_ALLOW_THREADS;
  Py_RETURN_NONE;
}

// As a program does that calls CUDA in the cleanup of an error.
PyObject* CaptureWithError(PyObject*, PyObject*) {
  PyErr_SetString(PyExc_KeyError, "pending");
  captured_count = CapturePythonStack({captured.data(), wanted});
  return nullptr;
}

PyObject* Time(PyObject*, PyObject*) {
  std::vector<double> times;
  for (int batch = 0; batch < 200; ++batch) {
    const uint64_t start_ns = NowNs();
    for (int i = 0; i < 20; ++i) CapturePythonStack({captured.data(), 20});
    times.push_back(static_cast<double>(NowNs() - start_ns) / 20e3);
  }
  fastest_us = *std::min_element(times.begin(), times.end());
  captured_count = CapturePythonStack({captured.data(), 20});
  Py_RETURN_NONE;
}

PyMethodDef probe_methods[] = {{"capture", &Capture, METH_NOARGS, nullptr},
                               {"capture_without_gil", &CaptureWithoutGil, METH_NOARGS, nullptr},
                               {"capture_with_error", &CaptureWithError, METH_NOARGS, nullptr},
                               {"time", &Time, METH_NOARGS, nullptr},
                               {nullptr, nullptr, 0, nullptr}};
PyModuleDef probe_module = {
    PyModuleDef_HEAD_INIT, "probe", nullptr, -1, probe_methods, nullptr, nullptr, nullptr, nullptr};
PyObject* MakeProbe() { return PyModule_Create(&probe_module); }

// Runs `program` in a child's interpreter, then `expect` with the trace's names at hand.
class Interpreter {
 public:
  explicit Interpreter(const std::string& path) : path_(path) {
    EXPECT_TRUE(Recorder::Get().Start(Options(path_)));
    PyImport_AppendInittab("probe", &MakeProbe);
    Py_InitializeEx(0);
    StartPythonStacks();
  }
  void Run(const std::string& program) {
    captured_count = 0;
    EXPECT_EQ(PyRun_SimpleString(program.c_str()), 0) << program;
  }
  // What the last capture saw. The recording ends with it.
  std::vector<Frame> Frames() {
    ApiCallEvent call;
    call.python_frames = static_cast<uint8_t>(captured_count);
    Recorder::Get().Record(call, {captured.data(), captured_count});
    EXPECT_TRUE(Recorder::Get().Close(10'000));
    std::map<uint32_t, std::string> strings;
    std::map<uint32_t, pb::Code> codes;
    std::vector<Frame> frames;
    const pb::Trace trace = ReadTrace(path_);
    for (const pb::Chunk& chunk : trace.chunk()) {
      for (const pb::String& string : chunk.string()) strings[string.id()] = string.value();
      for (const pb::Code& code : chunk.code()) codes[code.id()] = code;
      for (const pb::SourceState& state : chunk.source_state()) {
        if (state.name() == "python_stacks") state_ = state;
      }
      for (const pb::Stack& stack : chunk.stack()) {
        EXPECT_EQ(stack.pc_size(), 0);
        EXPECT_EQ(stack.code_size(), stack.line_size());
        for (int i = 0; i < stack.code_size(); ++i) {
          const pb::Code& code = codes[stack.code(i)];
          frames.push_back({strings[code.file()], strings[code.function()], stack.line(i)});
        }
      }
    }
    return frames;
  }
  const pb::SourceState& state() const { return state_; }

 private:
  std::string path_;
  pb::SourceState state_;
};

constexpr PythonLayout kNotKnown{};

class PythonStackTest : public ::testing::TestWithParam<bool> {
 protected:
  // In a child, for an interpreter that was ended cannot be trusted to start again.
  void In(const std::function<void(Interpreter&)>& body) {
    const std::string path = folder_ / "trace.pb";
    const int status = InChild([&] {
      if (GetParam()) python_layout_for_tests = &kNotKnown;
      Interpreter python(path);
      body(python);
    });
    EXPECT_TRUE(ExitedWell(status)) << "status " << status;
  }
  bool by_api() const { return GetParam(); }
  TemporaryFolder folder_;
};

// Names of three widths, a method, a closure, a generator, a comprehension, several lines in one call.
constexpr char kProgram[] = R"py(
import sys, probe
def expected():
    frame, frames = sys._getframe(1), []
    while frame:
        frames.append((frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_lineno))
        frame = frame.f_back
    return frames
class Cache:
    def grow(self, how): exec(compile(
        "def größe(how): return how()\n\n\ndef 内存(how):\n    return größe(\n      how)\nresult = 内存(how)",
        "/tmp/𝔽ile.py", "exec"), space := {"how": how}); return space["result"]
def outer(how):
    def inner():
        yield [Cache().grow(how) for _ in range(1)]
    return list(inner())[0][0]
def recurse(depth, how):
    return outer(how) if depth == 0 else recurse(depth - 1, how)
both = recurse(3, lambda: (probe.CAPTURE(), expected())[1])
)py";

std::string Program(const std::string& capture) {
  std::string program = kProgram;
  return program.replace(program.find("CAPTURE"), 7, capture);
}

std::vector<Frame> Expected() {
  PyObject* const list = PyDict_GetItemString(PyModule_GetDict(PyImport_AddModule("__main__")), "both");
  std::vector<Frame> frames;
  for (Py_ssize_t i = 0; i < PyList_Size(list); ++i) {
    PyObject* const row = PyList_GetItem(list, i);
    frames.push_back({PyUnicode_AsUTF8(PyTuple_GetItem(row, 0)), PyUnicode_AsUTF8(PyTuple_GetItem(row, 1)),
                      static_cast<uint32_t>(PyLong_AsLong(PyTuple_GetItem(row, 2)))});
  }
  return frames;
}

TEST_P(PythonStackTest, IsWhatPythonSays) {
  In([&](Interpreter& python) {
    python.Run(Program("capture"));
    const std::vector<Frame> expected = Expected();
    EXPECT_GE(expected.size(), 11u);
    EXPECT_EQ(python.Frames(), expected);
    EXPECT_EQ(python.state().state(), pb::STATE_ACTIVE);
    EXPECT_EQ(python.state().reason().find("interpreter's lock") != std::string::npos, by_api())
        << python.state().reason();
  });
}

TEST_P(PythonStackTest, WithoutTheGilIsReadByLayoutAndLeftAloneByApi) {
  In([&](Interpreter& python) {
    python.Run(Program("capture_without_gil"));
    EXPECT_EQ(python.Frames(), by_api() ? std::vector<Frame>() : Expected());
  });
}

TEST_P(PythonStackTest, IsCutAtTheOutermostFrames) {
  In([&](Interpreter& python) {
    wanted = 3;
    python.Run(Program("capture"));
    std::vector<Frame> expected = Expected();
    expected.resize(3);
    EXPECT_EQ(python.Frames(), expected);
  });
}

TEST_P(PythonStackTest, KeepsAPendingException) {
  In([](Interpreter& python) {
    python.Run(R"py(
import probe
try:
    probe.capture_with_error()
except KeyError as error:
    assert error.args == ("pending",)
else:
    raise SystemError("the exception is gone")
)py");
    EXPECT_EQ(python.Frames().size(), 1u);
  });
}

TEST_P(PythonStackTest, CollectsNoGarbageAndKeepsReferenceCounts) {
  In([](Interpreter& python) {
    python.Run(R"py(
import gc, sys, probe
died = []
class Cycle:
    def __init__(self): self.me = self
    def __del__(self): died.append(1)
def deep(n):
    return deep(n - 1) if n else probe.capture()
deep(50)
codes = [deep.__code__]
before = sys.getrefcount(deep.__code__)
for i in range(50): deep(50)
assert sys.getrefcount(deep.__code__) == before, (before, sys.getrefcount(deep.__code__))
gc.collect(); gc.set_threshold(1, 1, 1)
Cycle()
def one(): probe.capture()
gc.set_threshold(700, 10, 10)
enabled = gc.isenabled()
one()
assert enabled and gc.isenabled()
gc.disable()
one()
assert not gc.isenabled()
)py");
    EXPECT_EQ(captured_count, 2u);
  });
}

// A function that is gone leaves its address to the next one.
TEST_P(PythonStackTest, CodeThatTookAnAddressOverHasItsOwnName) {
  In([](Interpreter& python) {
    python.Run(R"py(
import probe
addresses = set()
reused = 0
for i in range(3000):
    space = {"probe": probe}
    exec(compile(f"def function_{i:04}(): probe.capture()", f"<made {i:04}>", "exec"), space)
    function = space[f"function_{i:04}"]
    reused += id(function.__code__) in addresses
    addresses.add(id(function.__code__))
    function()
print(reused)
)py");
    const std::vector<Frame> frames = python.Frames();
    ASSERT_EQ(frames.size(), 2u);
    EXPECT_EQ(frames[0], (Frame{"<made 2999>", "function_2999", 1}));
  });
}

TEST_P(PythonStackTest, ThreadsHaveTheirOwn) {
  In([](Interpreter& python) {
    python.Run(R"py(
import probe, threading
def worker():
    for i in range(300): probe.capture_without_gil(); probe.capture()
threads = [threading.Thread(target=worker) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
done = threading.Thread(target=probe.capture); done.start(); done.join()
)py");
    const std::vector<Frame> frames = python.Frames();
    ASSERT_EQ(frames.size(), 3u);  // run, _bootstrap_inner, _bootstrap
    EXPECT_EQ(frames[0].function, "Thread.run");
  });
}

TEST_P(PythonStackTest, IsEmptyInAThreadThatPythonDoesNotKnowAndAfterTheEnd) {
  In([](Interpreter& python) {
    python.Run("import probe; probe.capture()");
    EXPECT_EQ(captured_count, 1u);
    PyThreadState* const state = PyEval_SaveThread();
    std::thread([] { EXPECT_EQ(CapturePythonStack(captured), 0u); }).join();
    PyEval_RestoreThread(state);
    EXPECT_EQ(Py_FinalizeEx(), 0);
    EXPECT_EQ(CapturePythonStack(captured), 0u);
  });
}

TEST_P(PythonStackTest, SubInterpreterDoesNoHarm) {
  In([&](Interpreter& python) {
    PyThreadState* const main_state = PyThreadState_Get();
    PyThreadState* const sub_state = Py_NewInterpreter();
    ASSERT_NE(sub_state, nullptr);
    python.Run("import probe\ndef inner(): probe.capture()\ninner()");
    if (by_api()) {
      EXPECT_EQ(captured_count, 0u);
    }
    Py_EndInterpreter(sub_state);
    PyThreadState_Swap(main_state);
    python.Run("import probe\ndef inner(): probe.capture()\ninner()");
    EXPECT_EQ(captured_count, 2u);
  });
}

TEST_P(PythonStackTest, AForkedChildDefinesItsFunctionsAgain) {
  In([](Interpreter& python) {
    python.Run(Program("capture"));
    ForgetPythonStacks();
    Recorder::Get().Close(10'000);
    Recorder::Get().AbandonAfterFork();
    TemporaryFolder folder;
    const std::string path = folder / "child.pb";
    ASSERT_TRUE(Recorder::Get().Start(Options(path)));
    StartPythonStacks();
    python.Run(Program("capture"));
    Recorder::Get().Close(10'000);
    int codes = 0;
    const pb::Trace trace = ReadTrace(path);
    for (const pb::Chunk& chunk : trace.chunk()) codes += chunk.code_size();
    EXPECT_GT(codes, 5);
  });
}

// A read of this process's memory that cannot fault, which the frames are read with: what it costs depends on the machine.
double MicrosecondsOfASafeRead() {
  char from[64] = {1};
  char to[64];
  const iovec local{to, sizeof to};
  const iovec remote{from, sizeof from};
  double fastest = 1e9;
  for (int i = 0; i < 2000; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != sizeof to) return 1e9;
    fastest = std::min(fastest, std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
  }
  return fastest;
}

TEST_P(PythonStackTest, TwentyFramesCostNoMoreThanAFewSafeReads) {
  In([&](Interpreter& python) {
    python.Run("import probe\ndef deep(n): return deep(n - 1) if n else probe.time()\ndeep(30)");
    EXPECT_EQ(captured_count, 20u);
    printf("%s: %.2f us for 20 frames\n", by_api() ? "by API" : "by layout", fastest_us);
#ifndef __SANITIZE_ADDRESS__
    EXPECT_LT(fastest_us, 2 + 12 * MicrosecondsOfASafeRead());
#endif
  });
}

INSTANTIATE_TEST_SUITE_P(Ways, PythonStackTest, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "ByApi" : "ByLayout"; });

// The layouts of other versions are wrong for this one. They must be found out, without a crash.
TEST(PythonLayouts, AWrongLayoutIsRefused) {
  for (const PythonLayout& wrong : kPythonLayouts) {
    if (wrong.minor == PY_MINOR_VERSION) continue;
    TemporaryFolder folder;
    const std::string path = folder / "trace.pb";
    const int status = InChild([&] {
      python_layout_for_tests = &wrong;
      Interpreter python(path);
      python.Run(Program("capture"));
      EXPECT_EQ(python.Frames(), Expected());  // by API
      EXPECT_NE(python.state().reason().find("interpreter's lock"), std::string::npos) << python.state().reason();
    });
    EXPECT_TRUE(ExitedWell(status)) << "layout of 3." << wrong.minor << ": status " << status;
  }
}

}  // namespace
}  // namespace uvmtrace
