// Prints which function a resolver chose.
#include <stdio.h>

extern "C" int chosen();

int main() {
  printf("%d\n", chosen());
  return 0;
}
