"""The one part that is compiled: without a compiler the package works as well, a little slower."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "gainstage.norms._native",
            ["src/gainstage/norms/_native.c"],
            extra_compile_args=["-O3"],
            optional=True,
        )
    ]
)
