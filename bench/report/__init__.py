"""Tables and figures from records and costs alone; never imports torch nor the runner.

`write.build` makes what a reader sees, and `check.check` compares it with the records.
`load.load_results` reads a study's; `sections` makes rows of them; `renderers` names what shows a
kind of study: its table puts `columns` into cells, which `render` writes.
"""
