extern "C" int register_variable();
extern "C" __attribute__((visibility("default"))) int work() { return register_variable(); }
