extern "C" __attribute__((visibility("default"))) int beside() { return 17; }
