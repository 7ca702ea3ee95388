// C++ names as a person reads them: template arguments and parameter lists of generated code run over hundreds of
// columns and say little.
#pragma once

#include <string>
#include <string_view>

namespace uvmtrace::analyzer {

// "void f<int, std::vector<long>>(int, char const*) (file.cc:3)" becomes "f<...>() (file.cc:3)": without the return
// type of a template, with short template arguments kept, long ones and parameters left out. Other text comes back as
// it is.
std::string ShortName(std::string_view name);

}  // namespace uvmtrace::analyzer
