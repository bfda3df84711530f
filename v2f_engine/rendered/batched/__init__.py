"""Many scenes drawn at once by plain torch, the same operations on a CPU and on a GPU.

The numba kernels are the reference and the default; this is for a machine whose GPU would stand idle while its
cores draw. What was drawn by lot is in the `Scene`; here are only pixels, and no random number.

    packed     scenes as tensors: one vertex table, one triangle list, a row of parameters a scene
    coverage   triangles to fragments to the nearest one of every pixel; the light's depth map
    surfaces   what a surface is made of
    shading    shadow, diffuse, mirror, hair and rim terms
    sensor     exposure, encoding, blur, noise

The same scenes in the same order give the same bytes on one device. On another device, or among other scenes, a
value may differ by a grey level: exponentials and sums are rounded otherwise.
"""

from v2f_engine.rendered.batched.picture import draw

__all__ = ["draw"]
