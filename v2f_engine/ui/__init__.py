"""The page of `v2f ui`: a person, a row of images, sliders that each reach an option of generation, and a set to keep.

    page (static/) -> guard -> app -> desk (one thread, the newest request wins) -> studio -> pipeline.Engine
                                   -> export (a thread of its own) -> pipeline.generation.run

Starlette and uvicorn serve three files of our own. Gradio would have been shorter to write; it brings 22 packages more,
and reports its use unless it is told not to. What promises to work offline and to tell nobody should need no switch.
"""
