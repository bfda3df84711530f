"""Export: a checkpoint to a file that something else runs, checked before it is trusted.

    models --graph--> onnx (written, checked, measured) --> tensorrt (datacenter and RTX behind one adapter)

What is kept has a sidecar (`runtime.artefact`); `runtime.onnx` and `runtime.tensorrt` run it.
"""
