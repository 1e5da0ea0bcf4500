"""What doctor found: which kernel groups a tier had better leave to the reference."""

BAD = {"disagrees", "nondeterministic", "failed"}


def findings(lines):
    return [line for line in lines if line.get("kind") == "finding"]


def bad(lines):
    return [line for line in findings(lines) if line["result"] in BAD]


def groups_off(lines, tier):
    """The groups of a tier's bad findings, and that of a comparison which the device did not survive.

    A finding in f32 says nothing about bf16 and fp8, nor one in e4m3 about bf16.
    """
    found = {group for line in bad(lines) if concerns(line, tier) for group in line.get("groups", [])}
    summaries = [line for line in lines if line.get("kind") == "summary"]
    for summary in summaries:
        if summary.get("lost"):
            found.update(summary.get("bad_groups", []))
    return sorted(found)


def concerns(line, tier):
    text = f"{line.get('kernel', '')} {line.get('case', '')}".lower()
    if "f32" in text and "bf16" not in text:
        return tier == "f32"
    in_8_bits = "e4m3" in text or "quanti" in text
    return tier == "fp8" or not in_8_bits


def is_whole(lines):
    """Whether doctor came to its end and the device was still there."""
    summaries = [line for line in lines if line.get("kind") == "summary"]
    return bool(summaries) and not summaries[-1].get("lost")


def slow(lines):
    """Those of slow paths, which doctor's summary counts: no kernel, or a faster one was asked and refused.

    What failed has the failure as its reason, in the place of a refusal.
    """

    def is_slow(line):
        return line["result"] == "no kernel" or (line["result"] != "failed" and bool(line.get("reason")))

    return [line for line in findings(lines) if is_slow(line)]


def short(lines):
    """One line for a person."""
    every, wrong = findings(lines), bad(lines)
    names = ", ".join(sorted({line["kernel"] for line in wrong}))
    return f"{len(every) - len(wrong)} of {len(every)} comparisons are right, {len(slow(lines))} on a slow path" + (
        f"; wrong: {names}" if wrong else ""
    )
