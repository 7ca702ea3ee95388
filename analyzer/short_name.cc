#include "analyzer/short_name.h"

namespace uvmtrace::analyzer {
namespace {

constexpr size_t kArgumentColumns = 40;  // of template arguments: enough to tell instances apart
constexpr std::string_view kAnonymous = "(anonymous namespace)";

// Where the bracket at `open` closes; npos if it never does. "->", "operator<" and the like make brackets that do not
// pair: the name is then left alone.
size_t Close(std::string_view name, size_t open) {
  const char opening = name[open];
  const char closing = opening == '<' ? '>' : ')';
  int depth = 0;
  for (size_t i = open; i < name.size(); ++i) {
    if (name[i] == opening) ++depth;
    if (name[i] == closing && (i == 0 || name[i - 1] != '-') && --depth == 0) return i;
  }
  return std::string_view::npos;
}

bool EndsWithOperator(std::string_view text) {
  constexpr std::string_view kOperator = "operator";
  return text.size() >= kOperator.size() && text.substr(text.size() - kOperator.size()) == kOperator;
}

}  // namespace

std::string ShortName(std::string_view name) {
  // "(other kernels)" is no name.
  if (name.empty() || (name[0] == '(' && name.substr(0, kAnonymous.size()) != kAnonymous)) return std::string(name);
  // The place behind the name, "(file.cc:3)" or "(libfoo.so)", is the last parenthesis after a space.
  const size_t place = name.rfind(" (");
  const bool has_place = place != std::string_view::npos && name.back() == ')' &&
                         name.find_first_of(" (,", place + 2) == std::string_view::npos;
  std::string_view rest = has_place ? name.substr(0, place) : name;
  std::string text;
  while (!rest.empty()) {
    if (rest.substr(0, kAnonymous.size()) == kAnonymous) {
      text += kAnonymous;
      rest.remove_prefix(kAnonymous.size());
      continue;
    }
    if ((rest[0] == '<' || rest[0] == '(') && !text.empty() && text.back() != ' ' && !EndsWithOperator(text)) {
      const size_t end = Close(rest, 0);
      if (end == std::string_view::npos) return std::string(name);
      if (rest[0] == '(') {
        text += "()";
      } else if (end <= kArgumentColumns) {
        text += rest.substr(0, end + 1);
      } else {
        text += std::string(rest.substr(0, kArgumentColumns)) + "...>";
      }
      rest.remove_prefix(end + 1);
      continue;
    }
    // A space outside brackets ends a return type, unless it belongs to "operator new" or "() const".
    if (rest[0] == ' ' && text.find("operator") == std::string::npos && !text.empty() && text.back() != ')') {
      text.clear();
    } else {
      text += rest[0];
    }
    rest.remove_prefix(1);
  }
  if (has_place) text += name.substr(place);
  return text;
}

}  // namespace uvmtrace::analyzer
