#!/usr/bin/env python3
"""The layout check finds each kind of fault, and nothing in a tree without faults."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class CheckLayout(unittest.TestCase):
    def check(self, path, text):
        """Runs the check on a tree of one good header and the given file."""
        files = {"core/base/error.h": "#pragma once\n", path: text}
        with tempfile.TemporaryDirectory() as root:
            for name, content in files.items():
                os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
                with open(os.path.join(root, name), "w", encoding="utf-8") as out:
                    out.write(content)
            shutil.copy(os.path.join(ROOT, ".clang-format"), root)
            tool = os.path.join(ROOT, "tools", "check_layout.py")
            done = subprocess.run([sys.executable, tool, root], capture_output=True, text=True)
        return done.returncode, done.stdout

    def assert_found(self, path, text, message):
        status, output = self.check(path, text)
        self.assertEqual(status, 1, output)
        self.assertIn(message, output)

    def test_a_clean_tree_passes(self):
        status, output = self.check("launch/a.cc", '#include "core/base/error.h"\n')
        self.assertEqual(status, 0, output)

    def test_pragmas_behind_an_if(self):
        text = "void f() {\n  if constexpr (k == 8)\n#pragma unroll\n    for (;;) g();\n}\n"
        self.assert_found("kernels/cuda/a.cu", text, "braces around")
        text = "void f() {\n  if constexpr (k == 8) {\n#pragma unroll\n    for (;;) g();\n  }\n}\n"
        self.assertEqual(self.check("kernels/cuda/a.cu", text)[0], 0)

    def test_floors(self):
        self.assert_found("core/base/a.cc", '#include "launch/cli.h"\n', "core/ may not include")
        self.assert_found("parallel/a.cc", '#include "checkpoint/x.h"\n', "may not include")
        self.assert_found("recipes/a.cc", '#include "kernels/cpu/x.h"\n', "may not include kernels/")

    def test_rooms_of_core(self):
        self.assert_found("core/base/a.cc", '#include "core/nn/x.h"\n', "core/base/ may not")

    def test_heavy_headers(self):
        self.assert_found("recipes/a.cc", "#include <spdlog/spdlog.h>\n", "belongs into")
        self.assert_found("parallel/a.h", "#pragma once\n#include <mpi.h>\n", "into no other header")

    def test_environment_and_exit(self):
        self.assert_found("core/base/a.cc", 'auto x = std::getenv("X");\n', "environment")
        self.assert_found("recipes/a.cc", "void f() { std::exit(1); }\n", "throw Error")
        status, output = self.check("recipes/a.cc", '// exit(1)\nconst char* s = "exit(1)";  // abort()\n')
        self.assertEqual(status, 0, output)

    def test_sizes(self):
        self.assert_found("core/base/a.h", "#pragma once\n" + "// x\n" * 120, "121 lines")
        self.assert_found("core/base/a.cc", "// x\n" * 601, "601 lines")
        body = "int f() {\n" + "  g();\n" * 80 + "}\n"
        self.assertIn("a function of 82 lines", self.check("core/base/a.cc", body)[1])

    def test_form(self):
        self.assert_found("core/base/a.h", "// x\n", "no #pragma once")
        self.assert_found("core/base/error.cc", '#include <string>\n#include "core/base/error.h"\n',
                          "before its own header")


if __name__ == "__main__":
    unittest.main()
