"""What the Triton kernels share: launch configurations as data, and a compile gate without a GPU.

Only `rounding` imports triton at the top level, so a machine without it can still list configurations.
"""
