"""Rust's verdict on reports, through the Python SDK: cases as lines of JSON in, verdicts as lines out.

A case is one of tests/vectors, with the report's bytes in base64 instead of their path.
"""

import base64
import json
import sys

from test_sdk_vectors import judge

if __name__ == "__main__":
    for line in sys.stdin:
        case = json.loads(line)
        appraisal = judge(case, base64.b64decode(case["report"]))
        failing = [check.id for check in appraisal.checks if check.outcome == "FAIL"]
        print(json.dumps({"verdict": appraisal.verdict, "failing": failing}), flush=True)
