#!/usr/bin/env python3
"""Fills in a recipe without the supervisor: prints {"cwd", "argv", "env"} as JSON.

    launch.py RECIPE NAME=VALUE…      NAME is a placeholder: port, state_dir, secret.jwt, env.DB_USER, …

The plain run starts exactly what the recipe says, so that the recipe is judged and not a copy of it.
"""

import json
import re
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    recipe = tomllib.load(file)
values = dict(pair.split("=", 1) for pair in sys.argv[2:])


def fill(text):
    parts = re.split(r"(\{\{|\}\}|\{[A-Za-z0-9_.]+\})", text)
    out = []
    for part in parts:
        if part in ("{{", "}}"):
            out.append(part[0])
        elif part.startswith("{"):
            out.append(values[part[1:-1]])
        else:
            out.append(part)
    return "".join(out)


values.setdefault("app_dir", fill(recipe["app_dir"]))
env = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": values["state_dir"],
    "LANG": "C.UTF-8",
}
env.update({name: fill(text) for name, text in recipe["environment"].items()})
env.update({name[4:]: text for name, text in values.items() if name.startswith("env.")})
print(json.dumps({"cwd": fill(recipe["working_dir"]), "argv": [fill(arg) for arg in recipe["command"]], "env": env}))
