"""What is to be done once a module has been imported, whoever imports it: so nothing imports it for that alone."""

import os
import sys


class AfterImport:
    """An import hook. Its actions, by name, are called with the standard library's module of that name."""

    def __init__(self):
        self.actions = {}

    def find_spec(self, name, path=None, target=None):
        if name not in self.actions:
            return None
        from _frozen_importlib_external import PathFinder

        spec = PathFinder.find_spec(name, path)
        if spec is None or not (spec.origin or "").startswith(os.path.dirname(os.__file__) + "/"):
            return spec
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            self.actions[name](module)

        spec.loader.exec_module = exec_module
        return spec


after_import = AfterImport()


def whenever_imported(name, act):
    """Calls `act` with the module now if it is imported, and else once it is."""
    after_import.actions[name] = act
    if name in sys.modules:
        act(sys.modules[name])
