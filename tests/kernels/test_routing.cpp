#include "tests/kernels/op_test.h"
