"""The official OpenAI and Anthropic Python SDKs against the real gateway, with the embedded models."""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

import anthropic
import openai

SORT = "Sort these words: lemon, apple, mirror"
LIGHTS = "turn off the kitchen lights"
ABOUT = "Switch the lights of a room on or off."
SCHEMA = {
    "type": "object",
    "properties": {"room": {"type": "string"}, "on": {"type": "boolean"}},
    "required": ["room", "on"],
}


class Sdks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.weir = subprocess.Popen(
            [os.environ["WEIR_BIN"], "serve", "--listen", "127.0.0.1:0"],
            cwd=cls.folder.name,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in cls.weir.stderr:
            if found := re.search(r"listens on (http:\S+)", line):
                base = found.group(1)
                break
        else:
            raise RuntimeError("weir ended before it listened")
        cls.openai = openai.OpenAI(base_url=f"{base}/v1", api_key="not-checked", max_retries=0, timeout=120)
        cls.anthropic = anthropic.Anthropic(base_url=base, api_key="not-checked", max_retries=0, timeout=120)

    @classmethod
    def tearDownClass(cls):
        cls.openai.close()
        cls.anthropic.close()
        cls.weir.kill()
        cls.weir.wait()
        cls.weir.stderr.close()
        cls.folder.cleanup()

    def test_chat(self):
        ask = {"model": "diffusion", "messages": [{"role": "user", "content": SORT}], "max_tokens": 48, "temperature": 0}
        plain = self.openai.chat.completions.create(**ask)
        chunks = list(self.openai.chat.completions.create(**ask, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        self.assertEqual(text, plain.choices[0].message.content)
        self.assertTrue(chunks[-1].choices[0].finish_reason)

    def test_responses(self):
        ask = {"model": "ar", "input": SORT, "max_output_tokens": 48, "temperature": 0}
        plain = self.openai.responses.create(**ask)
        with self.openai.responses.stream(**ask) as stream:
            text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
            whole = stream.get_final_response()
        self.assertEqual(text, plain.output_text)
        self.assertEqual(whole.output_text, plain.output_text)
        counted = self.openai.responses.input_tokens.count(model="ar", input=SORT)
        self.assertEqual((counted.object, counted.input_tokens), ("response.input_tokens", plain.usage.input_tokens))
        tool = {"type": "function", "name": "set_light", "description": ABOUT, "parameters": SCHEMA, "strict": False}
        called = self.openai.responses.create(model="auto", input=LIGHTS, tools=[tool])
        calls = [item for item in called.output if item.type == "function_call"]
        self.assertEqual([call.name for call in calls], ["set_light"])
        self.assertEqual(set(json.loads(calls[0].arguments)), {"room", "on"})
        with self.assertRaises(openai.BadRequestError) as refused:
            self.openai.responses.create(model="ar", input="hi", previous_response_id="resp_1")
        self.assertEqual(refused.exception.param, "previous_response_id")

    def test_completions(self):
        ask = {"model": "ar", "prompt": "one, two,", "max_tokens": 8, "extra_body": {"min_tokens": 4}, "temperature": 0}
        plain = self.openai.completions.create(**ask)
        text = "".join(chunk.choices[0].text for chunk in self.openai.completions.create(**ask, stream=True))
        self.assertTrue(text)
        self.assertEqual(text, plain.choices[0].text)

    def test_messages(self):
        messages = [{"role": "user", "content": SORT}]
        ask = {"model": "diffusion", "messages": messages, "max_tokens": 48, "extra_body": {"temperature": 0}}
        plain = self.anthropic.messages.create(**ask)
        with self.anthropic.messages.stream(**ask) as stream:
            text = "".join(stream.text_stream)
            whole = stream.get_final_message()
        self.assertEqual(text, plain.content[0].text)
        self.assertEqual((whole.stop_reason, whole.usage.output_tokens), (plain.stop_reason, plain.usage.output_tokens))
        counted = self.anthropic.messages.count_tokens(model="diffusion", messages=messages)
        self.assertEqual(counted.input_tokens, plain.usage.input_tokens + plain.usage.cache_read_input_tokens)
        with self.assertRaises(anthropic.NotFoundError):
            self.anthropic.messages.create(**{**ask, "model": "nobody"})

    def test_messages_with_tools(self):
        tool = {"name": "set_light", "description": ABOUT, "input_schema": SCHEMA}
        messages = [{"role": "user", "content": LIGHTS}]
        with self.anthropic.messages.stream(model="auto", messages=messages, tools=[tool], max_tokens=96) as stream:
            called = stream.get_final_message()
        self.assertEqual(called.stop_reason, "tool_use")
        calls = [block for block in called.content if block.type == "tool_use"]
        self.assertEqual([(call.name, set(call.input)) for call in calls], [("set_light", {"room", "on"})])


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    # The closing lines that `cargo xtask test` adds up.
    print(f"# pass {result.testsRun - failed}\n# fail {failed}")
    sys.exit(failed > 0)
