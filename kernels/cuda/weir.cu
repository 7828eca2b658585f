// All kernels in one unit: one PTX for each GPU generation, and one shared object behind the host shim.
#include "attention.cu"
#include "head.cu"
#include "linear.cu"
#include "moe.cu"
#include "norm.cu"
