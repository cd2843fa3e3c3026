"""The main module of a program, which is in no file, for processes that multiprocessing starts afresh."""

import atexit
import os


class SpawnHook:
    """An import hook. Processes that multiprocessing starts afresh import the main module from its file: this writes it
    once that is about to happen."""

    path = source = copy = None

    def find_spec(self, name, path=None, target=None):
        if name != "multiprocessing.spawn":
            return None
        from _frozen_importlib_external import PathFinder

        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            self.patch(module)

        spec.loader.exec_module = exec_module
        return spec

    def patch(self, spawn):
        prepare = spawn.get_preparation_data

        def get_preparation_data(name):
            data = prepare(name)
            for key in ("init_main_from_path", "main_path"):
                if data.get(key) == self.path:
                    data[key] = self.write()
            return data

        spawn.get_preparation_data = get_preparation_data

    def write(self):
        if self.copy is None:
            import shutil
            import tempfile

            directory = tempfile.mkdtemp(prefix=".sandbox-")
            atexit.register(shutil.rmtree, directory, True)
            self.copy = os.path.join(directory, os.path.basename(self.path))
            with open(self.copy, "w", encoding="utf-8", newline="") as file:
                file.write(self.source)
        return self.copy


spawn_hook = SpawnHook()
