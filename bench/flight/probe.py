"""cublasLt's answers: which epilogues it has at FLUX.1's shapes, with which scales, and how fast."""

import shapes
import toolchain


def cublaslt(flight, name, seconds):
    program = toolchain.have(flight, "cublaslt.cpp", "cublaslt", "-std=c++17", "-ldl")
    products = shapes.products(shapes.parse_size(flight.options.size), flight.options.steps)
    words = [word for p in products for word in (p.name, p.rows, p.inputs, p.outputs)]
    return flight.run(name, [program, *words], seconds)
