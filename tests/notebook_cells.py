"""The cells of a notebook that papermill runs with LIVE=False, run in the process of the test."""

import ast

import nbformat


def outputs_of(notebook, monkeypatch, **parameters):
    """Execute the cells of a notebook here but for those that train; return what they show, and what was glued."""
    shown, glued = [], {}
    monkeypatch.setattr("IPython.display.display", lambda *objects, **_: shown.extend(objects))
    monkeypatch.setattr("myst_nb.glue", lambda name, value, display=False: glued.update({name: value}))
    names: dict[str, object] = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or {"colab", "live"} & set(tags):
            continue
        given = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        tree = ast.parse(f"{cell.source}\n{given}" if "parameters" in tags else cell.source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(notebook), "exec"), names)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), str(notebook), "eval"), names))
    return shown, glued
