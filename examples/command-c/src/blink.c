#include <stdio.h>
#include "blink.h"

int main(void) {
  for (int i = 0; i < BLINKS; i++) puts(i % 2 ? "off" : "on");
  return 0;
}
