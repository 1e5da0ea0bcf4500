"""tests/vectors: what the Python SDK makes of given bytes."""

import base64
import json
import os
import pathlib

import obscura
import pytest
from obscura import AnswerError, _native
from obscura._session import Events

VECTORS = pathlib.Path(os.environ["OBSCURA_FIXTURES"]).parent / "vectors"
CASES = sorted(path.parent.name for path in (VECTORS / "attestation").glob("*/case.json"))


def load(*names):
    return json.loads(VECTORS.joinpath(*names).read_bytes())


def toml(value):
    """A value as TOML says it; tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def document(rules):
    return "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in rules.items())


def judge(case, report):
    """What the SDK makes of a report, under a case's policy, challenge and roots."""
    rules, simulated = case["policy"], case["simulated"]
    policy = obscura.Policy(
        None if rules == "production" else document(rules),
        accept_simulated=simulated is not None,
        simulated_toml=document(simulated) if isinstance(simulated, dict) else None,
    )
    given = {"nonce": case["nonce"], "now": case["now"], "policy": policy}
    if case["roots"] == "built in":
        return _native.appraise(report, **given)
    # Of a wheel that is built for tests: AMD's roots are compiled in, and a released one takes no other.
    roots = [(root["generation"], root["ark"], root["ask"]) for root in load("roots", f"{case['roots']}.json")["amd"]]
    return _native.dangerous_appraise(roots, report, **given)


@pytest.mark.parametrize("name", CASES)
def test_attestation(name):
    case = load("attestation", name, "case.json")
    appraisal = judge(case, (VECTORS / "attestation" / name / case["report"]).read_bytes())
    expect = case["expect"]
    assert (appraisal.verdict, appraisal.exit_code) == (expect["verdict"], expect["exit_code"])
    for outcome, field in [("FAIL", "failing"), ("SKIP", "not_checked")]:
        assert [check.id for check in appraisal.checks if check.outcome == outcome] == expect[field]
    assert (appraisal.attested is None) == (expect["verdict"] != "accepted")


def test_there_are_enough():
    assert len(CASES) >= 290


def test_a_copy_of_the_root_that_a_chain_brings_along_is_not_looked_at():
    case = load("attestation", "simulated", "case.json")
    report = load("attestation", "simulated", case["report"])
    collateral = json.loads(base64.b64decode(report["collateral"]))
    begin, broken = "-----BEGIN CERTIFICATE-----\n", 0
    for name, chain in collateral.items():
        pem = chain.split(begin) if isinstance(chain, str) else []
        if len(pem) < 3:
            continue
        # The last certificate's DER no longer begins with a sequence.
        collateral[name] = begin.join([*pem[:-1], "A" + pem[-1][1:]])
        broken += 1
    assert broken >= 2
    report["collateral"] = base64.b64encode(json.dumps(collateral).encode()).decode()
    policy = obscura.Policy(accept_simulated=True)
    appraisal = _native.appraise(json.dumps(report).encode(), nonce=case["nonce"], now=case["now"], policy=policy)
    assert appraisal.verdict == "accepted", str(appraisal)


def exchange(given, attested=None):
    fields = ("signing_key", "keyset_digest", "model_manifest")
    keys = tuple(bytes.fromhex(attested[field]) if attested else bytes(32) for field in fields)
    draws = tuple(bytes.fromhex(given[field]) for field in ("client_secret", "salt", "nonce"))
    return _native.dangerous_seal(bytes.fromhex(given["node_public"]), given["body"].encode(), draws, keys)


def test_sealing():
    cases = load("wire", "seal.json")["cases"]
    assert len(cases) > 10
    for case in cases:
        if case["expect"] != "accept":
            with pytest.raises(ValueError, match="X25519"):
                exchange(case)
            continue
        envelope = json.loads(exchange(case)[0])
        assert {field: envelope[field] for field in case["envelope"]} == case["envelope"], case["name"]


def test_padding():
    attested = accepted().attested
    for case in load("wire", "padding.json")["cases"]:
        if case["bytes"] > 1 << 22:
            continue  # counted by the Rust tests, not made here
        body = b'{"a":"' + b"x" * (case["bytes"] - 8) + b'"}' if case["bytes"] >= 8 else b" " * case["bytes"]
        envelope = json.loads(_native.seal(attested, body)[0])
        # Without the tag.
        assert len(base64.b64decode(envelope["ciphertext"])) - 16 == case["padded"], case["bytes"]


def accepted():
    for name in CASES:
        case = load("attestation", name, "case.json")
        if case["expect"]["verdict"] == "accepted" and case["simulated"] == "simulated":
            report = (VECTORS / "attestation" / name / case["report"]).read_bytes()
            policy = obscura.Policy(accept_simulated=True)
            return _native.appraise(report, nonce=case["nonce"], now=case["now"], policy=policy)
    raise AssertionError("no accepted case")


def opened(opener, answer):
    try:
        opener.open(json.dumps(answer).encode())
    except _native.AnswerFault as fault:
        return fault.args[0]
    return "accept"


def test_opening():
    file = load("wire", "open.json")
    assert len(file["cases"]) > 10
    for case in file["cases"]:
        _, opener = exchange(file["exchange"], file["attested"])
        assert opened(opener, case["answer"]) == case["expect"], case["name"]


@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_streams(step):
    file = load("wire", "stream.json")
    for case in file["cases"]:
        _, opener = exchange(file["exchange"], file["attested"])
        body = b"".join(b"data: " + json.dumps(answer).encode() + b"\n\n" for answer in case["answers"])
        events, found = Events(opener), "accept"
        try:
            for start in range(0, len(body), step):
                for _ in events.feed(body[start : start + step]):
                    pass
                if events.ended:
                    break
            events.close()
        except AnswerError as error:
            found = error.fault
        assert found == case["expect"], case["name"]
