// The only PYBIND11_MODULE: one line per function. Functions work on buffers that their caller allocated. A buffer of
// another dtype, or one that is not C-contiguous, is an error and never a silent copy; shapes are the caller's duty
// (v2f_kernels/reject_similar/panels.py, nearest_cosine/native.py, philox/native.py, perturb/native.py, _winograd.py).
#include <omp.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "v2f/cosine.h"
#include "v2f/perturb.h"
#include "v2f/philox.h"
#include "v2f/reject.h"
#include "v2f/tile.h"
#include "v2f/winograd.h"

namespace py = pybind11;
using v2f::Options;
using v2f::PanelSet;
using v2f::PanelWriter;

namespace {

template <class T>
const T* in(const py::array& a) {
  // An unpickled array has a dtype of its own that is equal and not the same object.
  if (!py::isinstance<py::array_t<T, py::array::c_style>>(a))
    throw py::type_error("expected a C-contiguous array of " + py::str(py::dtype::of<T>()).cast<std::string>() +
                         ", found " + py::str(a.dtype()).cast<std::string>());
  return static_cast<const T*>(a.data());
}

template <class T>
T* out(py::array& a) {
  if (!a.writeable()) throw py::type_error("expected a writeable array");
  return const_cast<T*>(in<T>(a));
}

using In = const py::array&;
using Out = py::array&;

PanelSet panel_set(In panels, In scale, In error, In norm, In master, In rows, int64_t count, int64_t dim) {
  const int64_t* numbers = rows.size() ? in<int64_t>(rows) : nullptr;
  return {in<uint8_t>(panels), in<double>(scale), in<double>(error), in<double>(norm), in<float>(master), numbers,
          count, dim};
}

PanelWriter panel_writer(Out panels, Out scale, Out error, Out norm, int64_t dim) {
  return {out<uint8_t>(panels), out<double>(scale), out<double>(error), out<double>(norm), dim};
}

void norms(In x, Out norm, int threads) {
  const float* rows = in<float>(x);
  double* result = out<double>(norm);
  const py::gil_scoped_release release;
  v2f::norms(rows, x.shape(0), x.shape(1), result, threads);
}

void write_panels(const PanelWriter& writer, In x, int64_t start, int threads) {
  const float* rows = in<float>(x);
  const py::gil_scoped_release release;
  v2f::write_panels(writer, rows, nullptr, x.shape(0), start, threads);
  v2f::clear_tail(writer, start + x.shape(0));
}

void screen(In x, Out rejected, double max_cosine, const PanelSet& kept, int64_t first, const Options& options) {
  const float* rows = in<float>(x);
  uint8_t* flags = out<uint8_t>(rejected);
  const py::gil_scoped_release release;
  v2f::screen(rows, x.shape(0), flags, max_cosine, kept, first, options);
}

int64_t resolve(In x, Out rejected, double max_cosine, const PanelWriter& writer, int64_t start,
                const Options& options) {
  const float* rows = in<float>(x);
  uint8_t* flags = out<uint8_t>(rejected);
  const py::gil_scoped_release release;
  return v2f::resolve(rows, x.shape(0), flags, max_cosine, writer, start, options);
}

void similar_to_earlier(In x, Out similar, double max_cosine, const PanelSet& all, int64_t start,
                        const Options& options) {
  const float* rows = in<float>(x);
  uint8_t* flags = out<uint8_t>(similar);
  const py::gil_scoped_release release;
  v2f::similar_to_earlier(rows, x.shape(0), flags, max_cosine, all, start, options);
}

void nearest(In x, const PanelSet& gallery, int64_t base, Out cosine, Out index, const Options& options) {
  const float* rows = in<float>(x);
  double* best = out<double>(cosine);
  int64_t* where = out<int64_t>(index);
  const py::gil_scoped_release release;
  v2f::nearest(rows, x.shape(0), gallery, base, best, where, options);
}

void cosine_rows(In x, In y, Out cosine) {
  v2f::cosine_rows(in<float>(x), in<float>(y), x.shape(0), x.shape(1), out<double>(cosine));
}

// The rows of one draw: identity[i] and image[i] with the seed and purpose of all.
struct Places {
  Places(uint64_t seed, uint32_t purpose, In identity, In image)
      : seed(seed), purpose(purpose), identity(in<uint32_t>(identity)), image(in<uint32_t>(image)) {}

  v2f::Stream row(int64_t i) const {
    return {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), purpose, identity[i], image[i]};
  }

  uint64_t seed;
  uint32_t purpose;
  const uint32_t *identity, *image;
};

void draw(const std::string& kind, uint64_t seed, uint32_t purpose, In identity, In image, Out numbers) {
  const Places places(seed, purpose, identity, image);
  const v2f::Form form = kind == "bits" ? v2f::Form::kBits
                         : kind == "uniform" ? v2f::Form::kUniform
                                             : v2f::Form::kNormal;
  uint32_t* rows = form == v2f::Form::kBits ? out<uint32_t>(numbers) : reinterpret_cast<uint32_t*>(out<float>(numbers));
  const int64_t count = numbers.shape(0), n = numbers.shape(1);
  const py::gil_scoped_release release;
  for (int64_t i = 0; i < count; ++i) v2f::draw(form, places.row(i), n, rows + i * n);
}

void perturb_drawn(In x, In sigma, uint64_t seed, uint32_t purpose, In identity, In image, Out y, Out cosine) {
  const Places places(seed, purpose, identity, image);
  const float *centres = in<float>(x), *levels = in<float>(sigma);
  float* result = out<float>(y);
  double* cosines = out<double>(cosine);
  const int64_t count = x.shape(0), dim = x.shape(1);
  const py::gil_scoped_release release;
  std::vector<float> row(static_cast<size_t>(dim));
  for (int64_t i = 0; i < count; ++i) {
    v2f::draw(v2f::Form::kNormal, places.row(i), dim, reinterpret_cast<uint32_t*>(row.data()));
    cosines[i] = v2f::perturb(centres + i * dim, levels[i], row.data(), dim, result + i * dim);
  }
}

// Activations [B, H, W, C] and weights are the bits of bf16; an array without elements is an argument that is absent.
template <void (*function)(const v2f::Convolution&, int)>
void winograd(In x, In weights, Out y, In bias, In residual, In norm_weight, In norm_bias, In statistics,
              int64_t groups, float eps, int threads) {
  const auto floats = [](In a) { return a.size() ? in<float>(a) : nullptr; };
  const v2f::Norm norm{floats(norm_weight), floats(norm_bias), floats(statistics), groups, eps};
  const v2f::Convolution given{in<uint16_t>(x), in<uint16_t>(weights), floats(bias),
                               residual.size() ? in<uint16_t>(residual) : nullptr, out<uint16_t>(y),
                               x.shape(0), x.shape(1), x.shape(2), x.shape(3), y.shape(3), norm};
  const py::gil_scoped_release release;
  function(given, threads);
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const v2f::TileKernel& kernel : v2f::tile_kernels())
    if (kernel.supported()) names.emplace_back(kernel.name);
  return names;
}

template <size_t... I>
py::class_<PanelSet>& keep(py::class_<PanelSet>& c, std::index_sequence<I...>) {
  return c.def(py::init(&panel_set), py::keep_alive<1, I + 2>()...);
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled CPU kernels of v2f_kernels.";
  py::class_<PanelSet> set(m, "PanelSet");
  keep(set, std::make_index_sequence<6>());  // the views live as long as the six arrays they were made from
  py::class_<PanelWriter>(m, "PanelWriter")
      .def(py::init(&panel_writer), py::keep_alive<1, 2>(), py::keep_alive<1, 3>(), py::keep_alive<1, 4>(),
           py::keep_alive<1, 5>());
  py::class_<Options>(m, "Options").def(py::init<int, std::string, double>());
  m.attr("PANEL") = v2f::kPanel;
  m.def("max_threads", &omp_get_max_threads);
  m.def("instruction_sets", &instruction_sets);
  m.def("norms", &norms);
  m.def("cosine_rows", &cosine_rows);
  m.def("draw", &draw);
  m.def("perturb_drawn", &perturb_drawn);
  m.def("write_panels", &write_panels);
  m.def("screen", &screen);
  m.def("resolve", &resolve);
  m.def("similar_to_earlier", &similar_to_earlier);
  m.def("nearest", &nearest);
  m.def("winograd_refusal", &v2f::winograd_refusal);
  m.def("winograd_conv3x3", &winograd<v2f::winograd_conv3x3>);
  m.def("winograd_upsample_conv3x3", &winograd<v2f::winograd_upsample_conv3x3>);
}
