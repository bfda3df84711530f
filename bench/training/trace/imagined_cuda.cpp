// One CUDA device with cuDNN, as far as ATen's dispatch asks: nothing can run on it. See imagined.py.
// Backend selection (which convolution, which memory format, which batch norm) asks CUDAHooksInterface; factories and the
// autograd engine ask for a device guard. Both are put in place by imagine(1) and taken away by imagine(0).

#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <cstring>

namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;
using c10::Stream;

Stream default_stream() { return Stream(Stream::DEFAULT, Device(DeviceType::CUDA, 0)); }

struct Guard final : c10::impl::NoOpDeviceGuardImpl<DeviceType::CUDA> {
  Device exchangeDevice(Device) const override { return getDevice(); }
  Device getDevice() const override { return Device(DeviceType::CUDA, 0); }
  Stream getStream(Device) const noexcept override { return default_stream(); }
  Stream getNewStream(Device, int) const override { return default_stream(); }
  Stream exchangeStream(Stream) const noexcept override { return default_stream(); }
};

struct Hooks final : at::CUDAHooksInterface {
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasCuDNN() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  DeviceIndex current_device() const override { return 0; }
  int getNumGPUs() const override { return 1; }
  bool compiledWithCuDNN() const override { return true; }
  bool supportsDilatedConvolutionWithCuDNN() const override { return true; }
  bool supportsDepthwiseConvolutionWithCuDNN() const override { return true; }
  bool supportsBFloat16ConvolutionWithCuDNNv8() const override { return true; }
  long versionCuDNN() const override { return 91900; }
  long versionRuntimeCuDNN() const override { return 91900; }
  double batchnormMinEpsilonCuDNN() const override { return 0.0; }
};

void* real_table = nullptr;
const c10::impl::DeviceGuardImplInterface* real_guard = nullptr;
bool known = false;

}  // namespace

// The object that getCUDAHooks() hands out was made while torch was imported and has no members but its table of
// functions; that table is exchanged.
extern "C" void imagine(int on) {
  static const Guard* guard = new Guard();
  static const Hooks* hooks = new Hooks();
  auto& entry = c10::impl::device_guard_impl_registry[static_cast<size_t>(DeviceType::CUDA)];
  auto* told = const_cast<at::CUDAHooksInterface*>(&at::detail::getCUDAHooks());
  if (!known) {
    real_guard = entry.load();
    std::memcpy(&real_table, static_cast<void*>(told), sizeof real_table);
    known = true;
  }
  entry.store(on ? guard : real_guard);
  const void* table = on ? static_cast<const void*>(hooks) : static_cast<const void*>(&real_table);
  std::memcpy(static_cast<void*>(told), table, sizeof real_table);
}
