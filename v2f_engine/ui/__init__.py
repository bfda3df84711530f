"""The page of `v2f ui`: a person, a row of images, sliders that each reach an option of generation, and a set to keep.

    page (static/) -> guard -> app -> desk (one thread, the newest request wins) -> studio -> pipeline.Engine
                                   -> export (a thread of its own) -> pipeline.generation.run

Starlette and uvicorn serve three files of our own. Gradio would have been shorter to write; it weighs 40 packages, asks
its makers' servers for versions and fonts unless told not to, and loads its front end from them where it is shared. A
tool that promises to work offline and to tell nobody should not need such promises from others.
"""
