"""CUDA C++ kernels compiled at run time: shapes for a device, NVRTC, and launches through CuPy."""
