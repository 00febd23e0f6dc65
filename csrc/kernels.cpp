// Compiled once per instruction set, with SPF_ISA its name and the flags setup.py lists. Only the table is exported.
#include "decode.h"
#include "encode.h"
#include "limits.h"
#include "nadam.h"
#include "outer.h"
#include "reconstruct.h"
#if defined(__AMX_BF16__)
#include "amx_decode.h"
#include "amx_encode.h"
#include "amx_outer.h"
#include "amx_reconstruct.h"
// by matrix tiles what these are for, the rest as elsewhere
#define SPF_KERNEL(name) spf::amx_##name
#else
#define SPF_KERNEL(name) spf::name
#endif

#define SPF_JOIN_(a, b) a##b
#define SPF_JOIN(a, b) SPF_JOIN_(a, b)
#define SPF_TEXT_(a) #a
#define SPF_TEXT(a) SPF_TEXT_(a)

extern "C" const spf::Kernels* SPF_JOIN(spf_kernels_, SPF_ISA)() {
  static const spf::Kernels table = {
      SPF_TEXT(SPF_ISA),       SPF_KERNEL(encode),  SPF_KERNEL(decode), SPF_KERNEL(outer),
      SPF_KERNEL(reconstruct), spf::nadam_factored, spf::nadam_dense,   spf::read_memory,
      spf::write_memory};
  return &table;
}
