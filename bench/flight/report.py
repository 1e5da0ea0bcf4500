"""A results file as tables in Markdown."""

import shapes
import verdict
from record import latest, read

# Ours, and whom they are held against.
RATIOS = [("bf16", "diffusers eager"), ("bf16", "diffusers compiled"), ("fp8", "diffusers compiled"),
          ("fp8", "diffusers fp8"), ("bf16 again", "diffusers compiled again"), ("fp8 again", "diffusers fp8")]


class Findings:
    """The latest findings of each part of a results file."""

    def __init__(self, path):
        self.lines = list(read(path))

    def of(self, part):
        return latest(self.lines, part)

    def parts(self):
        return list(dict.fromkeys(line["part"] for line in self.lines if line["part"] != "flight"))

    def timed(self, part):
        """A part's measurement of an image, or None."""
        found = [line for line in self.of(part) if "seconds_per_image" in line]
        return found[-1] if found else None


def markdown(path):
    found = Findings(path)
    floors = Floors(found)
    head = [f"{flight['card']}, driver {flight['driver']}, commit {flight['commit']}" for flight in found.of("flight")]
    blocks = [
        head[-1:],
        outcomes(found),
        doctors(found),
        table(["", "ms an image", "least, most", "of its floor", "peak"], times(found, floors)),
        table(["stage", "ms", "TFLOP/s", "of its floor"], stages(found, floors)),
        table(["ceiling, by torch", "ms", "rate"], ceilings(found)),
        hosts(found),
        probes(found),
        kernels(found),
    ]
    texts = ["\n".join(block).strip() for block in blocks]
    return "\n\n".join(text for text in texts if text)


def table(names, rows):
    """Rows of cells under their names; nothing where there are none."""
    rows = list(rows)
    for cells in [names, ["---"] * len(names), *rows] if rows else []:
        yield f"| {' | '.join(cells)} |"


def outcomes(found):
    """What ran and what did not."""
    for part in found.parts():
        ended = [line for line in found.of(part) if line.get("outcome") not in (None, "started")]
        if not ended:
            yield f"- {part}: began and never ended"
        elif ended[-1]["outcome"] != "done":
            reason = str(ended[-1].get("reason", "")).strip().splitlines()
            yield f"- {part}: {ended[-1]['outcome']}{': ' + reason[-1] if reason else ''}"
        for refusal in (found.timed(part) or {}).get("refusals", []):
            yield f"- {part}: no kernel for {refusal['group']}, {refusal['count']} times: {refusal['reason']}"


def doctors(found):
    for part in ("doctor", "doctor full", "host doctor"):
        lines = found.of(part)
        if not verdict.findings(lines):
            continue
        yield f"{part}: {verdict.short(lines)}"
        for line in verdict.bad(lines):
            why = f"{line.get('error') or ''} {line.get('reason') or ''}".strip()
            yield f"- {line['result']}: {line['kernel']}, {line['case']}{': ' if why else ''}{why}"
        for line in verdict.slow(lines):
            why = line.get("reason") or "the reference computes"
            yield f"- slow: {line['kernel']}, {line['case']}: {why}"
        yield ""
    for line in found.of("truth"):
        if "errors" in line:
            errors = {name: "none" if error is None else round(error, 2) for name, error in line["errors"].items()}
            yield f"whole model: {line['result']}; errors of 255: {errors}"
            yield ""
    for line in found.of("node start"):
        if "ready_seconds" in line:
            yield f"a node's start: {line['ready_seconds']} s"
            yield ""


def times(found, floors):
    for part in found.parts():
        line = found.timed(part)
        # A trace slows things down.
        if line is None or part.startswith("kernels "):
            continue
        low, high = line["spread"]
        peak = f"{line['peak_bytes'] / 1e9:.1f} GB" if line.get("peak_bytes") else ""
        off = f" (reference: {', '.join(line['reference'])})" if line.get("reference") else ""
        share = percent(floors.share_of_image(part, line))
        yield [part + off, f"{1e3 * line['seconds_per_image']:.1f}", f"{1e3 * low:.1f}, {1e3 * high:.1f}", share, peak]
    for ours, theirs in RATIOS:
        mine, other = found.timed(ours), found.timed(theirs)
        if mine and other:
            yield [f"{ours} / {theirs}", f"{mine['seconds_per_image'] / other['seconds_per_image']:.3f}", "", "", ""]
            # Theirs is Pillow's, which would decide for a small model.
            ratio = without_png(mine) / without_png(other)
            yield [f"{ours} / {theirs}, without their PNGs", f"{ratio:.3f}", "", "", ""]
    for part in found.parts():
        for line in found.of(part):
            if "watched" in line:
                of = line["watched"]
                slowed = f"slowed by power {percent(of['by_power'])}, by heat {percent(of['by_heat'])} of the time"
                yield [f"{part}: clock", f"{of['sm_mhz']:.0f} MHz, {of['watts']:.0f} W", slowed, "", ""]


def without_png(line):
    """Seconds until there are pixels."""
    png = (line.get("stages") or {}).get("png", {}).get("milliseconds", 0) / 1e3
    return line["seconds_per_image"] - png - (line.get("parts_seconds") or {}).get("png", 0)


def stages(found, floors):
    """Parts of an image; floors are this card's own."""
    for part in found.parts():
        for stage, of in ((found.timed(part) or {}).get("stages") or {}).items():
            rate = f"{of['tflops']:.0f}" if of.get("tflops") else ""
            share = percent(floors.share(part, stage, of["milliseconds"]))
            yield [f"{part}: {stage}", f"{of['milliseconds']:.2f}", rate, share]


def ceilings(found):
    for line in found.of("ceilings"):
        if "ceiling" not in line:
            continue
        words = [line["ceiling"], line["name"], line.get("dtype", ""), line.get("through", "")]
        name = " ".join(dict.fromkeys(word for word in words if word)) + (" + bias" if line.get("biased") else "")
        if "error" in line:
            yield [name, "", line["error"].splitlines()[0][:80]]
            continue
        rate = f"{line['tflops']:.0f} TFLOP/s" if "tflops" in line else f"{line['bytes_per_second'] / 1e12:.2f} TB/s"
        yield [name, f"{line['milliseconds']:.4f}", rate]


def hosts(found):
    """The processor, and torch on it."""
    for line in found.of("host"):
        if "processor" in line:
            yield f"host: {line['processor']}, {line['threads']} threads, {', '.join(line['features'])}"
            yield ""
    lines = [line for line in found.of("host torch bf16") if "peer" in line]
    rows = ([line["peer"], line["case"], f"{line['ms']:.1f}", f"{line['tflops']:.2f}"] for line in lines)
    yield from table(["torch on the host, bf16", "shape", "ms", "TFLOP/s"], rows)


def probes(found):
    """cublasLt: a row a shape, a column a variant; TFLOP/s or why there is none."""
    lines = [line for line in found.of("cublaslt") if line.get("probe") == "product"]
    variants = list(dict.fromkeys(line["variant"] for line in lines))

    def cell(name, dtype, variant):
        for line in lines:
            if (line["name"], line["dtype"], line["variant"]) == (name, dtype, variant):
                return f"{line['tflops']:.0f}" if "tflops" in line else line["status"]
        return ""

    shapes_and_types = dict.fromkeys((line["name"], line["dtype"]) for line in lines)
    rows = ([f"{name} {dtype}", *(cell(name, dtype, one) for one in variants)] for name, dtype in shapes_and_types)
    return table(["cublasLt, TFLOP/s", *variants], rows)


def kernels(found, most=25):
    for part in [part for part in found.parts() if part.startswith("kernels ")]:
        for line in found.of(part):
            if "families" not in line:
                continue
            families = ", ".join(f"{name} {spent:.1f}" for name, spent in line["families"].items())
            yield f"{part}: busy {line['busy_ms']:.1f} of {line['span_ms']:.1f} ms: {families}"
            yield ""
            rows = line["kernels"][:most]
            yield from table(
                ["ms", "calls", "µs", "blocks", "kernel"],
                ([f"{row['ms']:.2f}", f"{row['calls']}", f"{row['us']:.1f}", f"{row['blocks']}", row["kernel"][:90]]
                 for row in rows),
            )
            yield ""


class Floors:
    """The least time of each stage, from the same card's ceilings at the same shapes."""

    def __init__(self, found):
        flights = found.of("flight")
        protocol = flights[-1]["protocol"] if flights else {}
        self.size = shapes.parse_size(protocol.get("size", "1024x1024"))
        self.steps = protocol.get("steps", 4)
        # Of FLUX.1-schnell's shapes; of another model's nothing is known.
        is_known = protocol.get("preset", "schnell") == "schnell"
        self.lines = [line for line in found.of("ceilings") if "milliseconds" in line and is_known]

    def least(self, **what):
        """Milliseconds of the fastest ceiling that is such a one, or None."""
        fitting = [line["milliseconds"] for line in self.lines if what.items() <= line.items()]
        return min(fitting, default=None)

    def of(self, stage, dtype):
        """Milliseconds, or None where a ceiling is missing."""
        products = shapes.products(self.size, self.steps)
        if stage == "text_encoders":
            return total((self.least(name=p.name, dtype="bf16"), p.count) for p in shapes.text_encoder_products())
        if stage == "preparation":
            rates = [line["bytes_per_second"] for line in self.lines if line["ceiling"] == "copy"]
            return shapes.MODULATION_BYTES / rates[0] * 1e3 if rates else None
        if stage == "denoising":
            forward = [(self.least(name=p.name, dtype=dtype), p.count) for p in products if p.count]
            forward.append((self.least(ceiling="attention"), shapes.attention(self.size)[1]))
            forward = total(forward)
            return None if forward is None else self.steps * forward
        if stage == "decoding":
            convolutions = shapes.convolutions(self.size).items()
            return total((self.least(name="x".join(map(str, shape))), count) for shape, count in convolutions)
        return None

    def share(self, part, stage, milliseconds):
        """How near a stage comes to its floor: 1 is there. None for what the ceilings say nothing of."""
        if part.split()[0] not in ("bf16", "fp8"):
            return None
        floor = self.of(stage, "e4m3" if part.startswith("fp8") else "bf16")
        return floor / milliseconds if floor and milliseconds else None

    def share_of_image(self, part, line):
        if not line.get("stages"):
            return None
        dtype = "e4m3" if part.startswith("fp8") else "bf16"
        floor = total((self.of(stage, dtype), 1) for stage in ("text_encoders", "preparation", "denoising", "decoding"))
        known = part.split()[0] in ("bf16", "fp8")
        return floor / (1e3 * line["seconds_per_image"]) if floor and known else None


def total(pairs):
    """Σ milliseconds · count; None where one is unknown."""
    pairs = list(pairs)
    if any(milliseconds is None for milliseconds, _ in pairs):
        return None
    return sum(milliseconds * count for milliseconds, count in pairs)


def percent(share):
    return "" if share is None else f"{100 * share:.0f} %"
