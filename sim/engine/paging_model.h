// The paging model under the simulator's own names.
#pragma once

#include "uvm_model/model.h"

namespace uvmsim {
using namespace uvm_model;  // NOLINT(google-build-using-namespace): the engine speaks the model's language
}  // namespace uvmsim
