// A program without a dynamic linker: the launcher warns that it cannot be traced.
#include <stdio.h>

int main() {
  printf("static\n");
  return 6;
}
