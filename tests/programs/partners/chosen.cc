// Bound at once to resolvers.cc: the loader calls the resolvers while it relocates this library.
extern "C" {
int CHOSEN();
__attribute__((visibility("default"))) int chosen() { return CHOSEN(); }
}
