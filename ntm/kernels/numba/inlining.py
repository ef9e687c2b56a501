"""What kernels call, compiled inside them and nowhere else.

Numba compiles whatever is called as a function of its own as well, all the way to machine code
that nobody runs: half of the time that a kernel took to compile. Here it stops at LLVM's language,
in which the kernel takes it in. So there is one compiled copy of everything, whether a process
compiled it or read it from the cache, and that one rounds alike.
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class _Library(JITCodeLibrary):  # type: ignore[misc]  # Numba has no types
    """Code that is linked into other code, and optimised there."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):  # type: ignore[misc]
    _name = "ntm_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = state.flags.no_cpython_wrapper = state.flags.no_cfunc_wrapper = (
            True
        )
        super().run_pass(state)
        # Numba knows functions by their machine code; where there is none, by any builtin method.
        compiled = state["cr"]._replace(cfunc=[].pop)
        state.targetctx.insert_user_function(compiled.cfunc, compiled.fndesc, [state.library])
        state["cr"] = compiled
        return True


class Inlined(CompilerBase):  # type: ignore[misc]
    """The pipeline of a function that only kernels call."""

    def define_pipelines(self) -> list[Any]:
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [
            (_Lowering, "lowering") if one is NativeLowering else (one, text)
            for one, text in passes.passes
        ]
        passes._finalized = False
        passes.finalize()
        return [passes]
