#define BLINKS 3
