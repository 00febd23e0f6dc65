// The Python module spf_kernels._native. Addresses come in as integers; shapes, dtypes and lifetimes are the
// caller's business (spf_kernels/backends/native.py).
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>

#include "allocator.h"
#include "runtime.h"

namespace py = pybind11;

namespace {

using spf::Activation;
using spf::DType;

template <class T = void>
T* pointer(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

using SizeList = std::array<int64_t, 4>;                                 // B, C, D, S
using MapsSpec = std::tuple<uintptr_t, int64_t, int64_t, int>;           // address, strides b c, dtype
using CodesSpec = std::tuple<uintptr_t, int64_t, int64_t, int64_t, int>; // address, strides b c d, dtype
using LayerSpec = std::tuple<uintptr_t, uintptr_t, int, int>;            // weight, bias or 0, dtype, activation

spf::Sizes sizes(const SizeList& s) { return {s[0], s[1], s[2], s[3]}; }

spf::Maps maps(const MapsSpec& m) {
  return {pointer(std::get<0>(m)), std::get<1>(m), std::get<2>(m), DType(std::get<3>(m))};
}

spf::Codes codes(const CodesSpec& c) {
  return {pointer(std::get<0>(c)), std::get<1>(c), std::get<2>(c), std::get<3>(c), DType(std::get<4>(c))};
}

spf::Layer layer(const LayerSpec& l) {
  return {pointer(std::get<0>(l)), pointer(std::get<1>(l)), DType(std::get<2>(l)), Activation(std::get<3>(l))};
}

void encode(const SizeList& s, const MapsSpec& m, const LayerSpec& l, uintptr_t out, int threads) {
  py::gil_scoped_release release;
  spf::run_encode({sizes(s), maps(m), layer(l), pointer(out), 0}, threads);
}

void decode(const SizeList& s, const CodesSpec& c, const LayerSpec& l, uintptr_t out, int threads) {
  py::gil_scoped_release release;
  spf::run_decode({sizes(s), codes(c), layer(l), pointer(out), 0}, threads);
}

void outer(const SizeList& s, const CodesSpec& left, const MapsSpec& right, uintptr_t out, int out_dtype, int threads) {
  py::gil_scoped_release release;
  spf::run_outer({sizes(s), codes(left), maps(right), pointer(out), DType(out_dtype), false, 0}, threads);
}

void reconstruct(const SizeList& s, const CodesSpec& c, const MapsSpec& m, const LayerSpec& l, uintptr_t loss,
                 uintptr_t error, uintptr_t residual, uintptr_t codes_gradient, int threads) {
  py::gil_scoped_release release;
  spf::run_reconstruct(
      {sizes(s), codes(c), maps(m), layer(l), nullptr, pointer(error), pointer(residual), nullptr, 0},
      pointer<float>(loss), pointer<float>(codes_gradient), threads);
}

// Addresses of weight, momentum and variance, dtype of the weight, of the other two.
using StateSpec = std::tuple<uintptr_t, uintptr_t, uintptr_t, int, int>;
// beta1, beta2, epsilon, weight decay, weight factor, gradient step, momentum step, bias correction of the variance.
using CoefficientList = std::array<double, 8>;

spf::NadamState nadam_state(const StateSpec& s) {
  return {pointer(std::get<0>(s)), pointer(std::get<1>(s)), pointer(std::get<2>(s)), DType(std::get<3>(s)),
          DType(std::get<4>(s))};
}

spf::NadamStep nadam_step(const CoefficientList& c, bool maximize, uint32_t noise_key) {
  return {float(1 - c[0]), float(1 - c[1]), float(c[2]),     float(c[3]),           float(c[4]),
          float(c[5]),     float(c[6]),     float(1 / c[7]), maximize ? -1.0f : 1.0f, noise_key};
}

void nadam_factored(const SizeList& s, const StateSpec& state, const CodesSpec& left, const MapsSpec& right,
                    const CoefficientList& coefficients, bool maximize, uint32_t noise_key, int threads) {
  py::gil_scoped_release release;
  spf::run_nadam_factored({sizes(s), nadam_state(state), codes(left), maps(right),
                           nadam_step(coefficients, maximize, noise_key), 0},
                          threads);
}

void nadam_dense(int64_t count, const StateSpec& state, uintptr_t gradient, int gradient_dtype,
                 const CoefficientList& coefficients, bool maximize, uint32_t noise_key, int threads) {
  py::gil_scoped_release release;
  spf::run_nadam_dense({count, nadam_state(state), pointer(gradient), DType(gradient_dtype),
                        nadam_step(coefficients, maximize, noise_key), 0},
                       threads);
}

// A 1-d array of `count` elements on a recycled buffer, which goes back when the array and all that view it are gone.
template <class T>
py::array recycled(size_t count) {
  void* buffer = spf::allocate_output(count * sizeof(T));
  py::capsule owner(buffer, [](void* p) { spf::release_output(p); });
  return py::array_t<T>(static_cast<py::ssize_t>(count), static_cast<T*>(buffer), owner);
}

py::array empty(size_t count, int dtype) {
  return DType(dtype) == DType::f32 ? recycled<float>(count) : recycled<int16_t>(count);
}

py::dict cache_statistics() {
  const spf::CacheStatistics s = spf::cache_statistics();
  py::dict d;
  d["cached_bytes"] = s.cached_bytes;
  d["used_bytes"] = s.used_bytes;
  d["limit_bytes"] = s.limit_bytes;
  d["hits"] = s.hits;
  d["misses"] = s.misses;
  return d;
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "The native CPU kernels of spf_kernels.";
  m.def("encode", &encode);
  m.def("decode", &decode);
  m.def("outer", &outer);
  m.def("reconstruct", &reconstruct);
  m.def("nadam_factored", &nadam_factored);
  m.def("nadam_dense", &nadam_dense);
  m.def("measure_read", [](uintptr_t from, int64_t bytes, int threads) {
    py::gil_scoped_release release;
    return spf::measure_read(pointer<const float>(from), bytes / 4, threads);
  });
  m.def("measure_write", [](uintptr_t to, int64_t bytes, int threads) {
    py::gil_scoped_release release;
    spf::measure_write(pointer<float>(to), bytes / 4, threads);
  });
  m.def("empty", &empty);
  m.def("advise_huge_pages",
        [](uintptr_t address, size_t bytes) { spf::advise_huge_pages(pointer(address), bytes); });
  m.def("empty_cache", &spf::empty_cache);
  m.def("set_cache_limit", &spf::set_cache_limit);
  m.def("cache_statistics", &cache_statistics);
  m.def("available_isas", &spf::available_isas);
  m.def("select_isa", &spf::select_isa);
  m.def("selected_isa", [] { return std::string(spf::kernels().name); });
  m.attr("compiler") = SPF_COMPILER;
  m.attr("openmp") = spf::has_openmp();
  m.attr("version") = SPF_VERSION;
}
