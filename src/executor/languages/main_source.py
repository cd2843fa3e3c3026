"""The source of a program's main module, which is in no file: for tracebacks, and for processes that multiprocessing
starts afresh."""

import atexit
import io
import os


class MainSource:
    """The program's source. `name` is what code of it is compiled as, `path` the file that it would be."""

    name = path = source = copy = None

    def show_to(self, linecache):
        """Has lines of the source be found by its name, and by its path unless there is such a file."""
        if self.source is None:
            return
        entry = len(self.source), None, io.StringIO(self.source, newline=None).readlines(), self.name
        linecache.cache[self.name] = entry
        if not os.path.exists(self.path):
            linecache.cache[self.path] = entry

    def write_for(self, spawn):
        """multiprocessing imports the main module from its file: this writes it once that is about to happen."""
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
