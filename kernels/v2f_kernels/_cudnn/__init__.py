"""cuDNN's graphs: several operations as one plan, built once for a shape, run on torch's stream.

`library` finds `nvidia-cudnn-frontend`, an optional package, and says what to install where it is missing. `plans`
builds a graph into a plan, keeps it, and runs it on torch tensors. What an op puts into a graph stands in its folder
(`conv3x3/cudnn_graph.py`). Importing this package imports neither cuDNN nor a CUDA library.
"""
